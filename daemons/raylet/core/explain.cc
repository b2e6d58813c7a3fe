#include "daemons/raylet/core/node_state.h"
namespace raylet {
NodeReport Node::State::report(Instant) const { return {}; }
Explanation Node::State::explain(Instant, const std::string&) const { return {}; }
void Node::State::validate() const {}
}  // namespace raylet
