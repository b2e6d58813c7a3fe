#include "daemons/raylet/hello_policy.h"

#include "protocol/words/ids.h"

namespace raylet {
namespace {

// "3.11" of "3.11.2".
std::string_view major_minor(std::string_view version) {
  size_t first = version.find('.');
  if (first == std::string_view::npos) return version;
  return version.substr(0, version.find('.', first + 1));
}

Failure mismatch(std::string message) {
  Failure failure;
  failure.code = FailureCode::kVersionMismatch;
  failure.message = std::move(message);
  return failure;
}

}  // namespace

Failure check_hello(const v1::Hello& hello, const WorkerVersions& workers) {
  if (hello.protocol_version() != kSessionProtocolVersion) {
    return mismatch("this node speaks protocol version " + std::to_string(kSessionProtocolVersion) +
                    ", the client speaks " + std::to_string(hello.protocol_version()) +
                    "; install the client that belongs to the node");
  }
  if (!workers.python.empty() && major_minor(hello.python_version()) != major_minor(workers.python)) {
    return mismatch("this node's workers run Python " + workers.python + ", the client runs Python '" +
                    hello.python_version() + "'; their first two numbers must agree");
  }
  if (!workers.cloudpickle.empty() && hello.cloudpickle_version() != workers.cloudpickle) {
    return mismatch("this node's workers have cloudpickle " + workers.cloudpickle + ", the client has '" +
                    hello.cloudpickle_version() + "'; install the same version in both");
  }
  if (hello.role() == v1::Hello::DRIVER) {
    auto job = JobId::from_binary(hello.job());
    if (job && !job->is_nil()) return {};
    Failure failure;
    failure.code = FailureCode::kRequestInvalid;
    failure.message = "a driver's hello needs a job id of 16 bytes that are not all zero; got " +
                      std::to_string(hello.job().size()) + " bytes";
    return failure;
  }
  if (hello.role() == v1::Hello::WORKER) return {};
  Failure failure;
  failure.code = FailureCode::kRequestInvalid;
  failure.message = "a hello must say whether it comes from a DRIVER or a WORKER";
  return failure;
}

}  // namespace raylet
