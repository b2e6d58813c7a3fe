// std::visit with one lambda per alternative: a new alternative without its lambda does not compile.
#pragma once

namespace raylet {

template <typename... Lambdas>
struct Overloaded : Lambdas... {
  using Lambdas::operator()...;
};
template <typename... Lambdas>
Overloaded(Lambdas...) -> Overloaded<Lambdas...>;

}  // namespace raylet
