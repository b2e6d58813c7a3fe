#include "daemons/raylet/wish_queue.h"

#include <catch2/catch.hpp>

namespace raylet {
namespace {

const JobId kJob{0, 1};
const GraphId kGraph{0, 7};

Record part(uint32_t number, bool last = false) { return RecordGraph{kGraph, kJob, number, last, nullptr}; }
Record named(const char* name) { return RecordName{name, "", ObjectId{kGraph, 0, 0}, kJob, false, nullptr}; }

Persisted refused() {
  Persisted with;
  with.failure.code = FailureCode::kLimitExceeded;
  return with;
}

template <typename Kind>
bool is(const WishPtr& wish) {
  const auto* record = wish ? std::get_if<Record>(&wish->what) : nullptr;
  return record != nullptr && std::holds_alternative<Kind>(*record);
}

WishPtr send_next(WishQueue& queue) {
  WishPtr wish = queue.next();
  REQUIRE(wish);
  REQUIRE(queue.begin(wish));
  return wish;
}

}  // namespace

TEST_CASE("nothing of a job goes before its registration was answered, then several parts go at once") {
  WishQueue queue;
  queue.add(Ticket{1}, RecordJob{kJob, "script", 1});
  queue.add(Ticket{2}, part(0));
  queue.add(Ticket{3}, part(1));
  WishPtr job = send_next(queue);
  CHECK(is<RecordJob>(job));
  CHECK(queue.next() == nullptr);
  queue.answer(job, {});
  CHECK(queue.known_jobs() == std::vector<JobId>{kJob});
  CHECK(is<RecordGraph>(send_next(queue)));
  CHECK(is<RecordGraph>(send_next(queue)));
  CHECK(queue.sent_graphs() == std::vector<GraphId>{kGraph});
  CHECK(queue.calls_in_flight() == 2);
  CHECK(queue.take_answers().size() == 1);
}

TEST_CASE("a graph that is forgotten before its record leaves never leaves, and all of it is answered") {
  WishQueue queue;
  queue.add(Ticket{1}, part(0));
  queue.add(Ticket{2}, ForgetGraph{kGraph});
  CHECK(queue.next() == nullptr);
  CHECK(queue.empty());
  CHECK(queue.take_answers().size() == 2);
}

TEST_CASE("a graph is forgotten after the part that is under way, which is not tried again") {
  WishQueue queue;
  queue.add(Ticket{1}, part(0));
  WishPtr first = send_next(queue);
  queue.add(Ticket{2}, ForgetGraph{kGraph});
  CHECK(queue.next() == nullptr);
  queue.put_back(first);
  CHECK(first->answered);
  CHECK(is<ForgetGraph>(queue.next()));
}

TEST_CASE("what did not get through goes again, before what came later") {
  WishQueue queue;
  queue.add(Ticket{1}, part(0));
  queue.add(Ticket{2}, part(1));
  WishPtr first = send_next(queue);
  queue.put_back(first);
  CHECK(queue.next() == first);
  CHECK(queue.calls_in_flight() == 0);
  CHECK(queue.take_answers().empty());
}

TEST_CASE("what belongs to a job that the head refused is refused with it") {
  WishQueue queue;
  queue.add(Ticket{1}, RecordJob{kJob, "script", 1});
  queue.add(Ticket{2}, part(0));
  queue.answer(send_next(queue), refused());
  CHECK(!queue.begin(queue.next()));
  CHECK(queue.empty());
  CHECK(queue.take_answers().size() == 2);
}

TEST_CASE("wishes about one name go one by one") {
  WishQueue queue;
  queue.add(Ticket{1}, named("counter"));
  queue.add(Ticket{}, FindName{Ticket{2}, "counter", ""});
  queue.add(Ticket{3}, named("other"));
  WishPtr first = send_next(queue);
  CHECK(is<RecordName>(send_next(queue)));  // the other one's
  CHECK(queue.next() == nullptr);
  queue.answer(first, {});
  REQUIRE(queue.next());
  CHECK(std::holds_alternative<FindName>(queue.next()->what));
}

TEST_CASE("a job that the head lost is registered again with the names of its actors, once") {
  WishQueue queue;
  queue.add(Ticket{1}, RecordJob{kJob, "script", 1});
  queue.answer(send_next(queue), {});
  queue.add(Ticket{2}, named("counter"));
  queue.answer(send_next(queue), {});
  queue.take_answers();
  CHECK(queue.register_again(kJob));
  CHECK(!queue.register_again(kJob));
  CHECK(queue.size() == 2);
  queue.answer(send_next(queue), {});
  CHECK(is<RecordName>(queue.next()));
  CHECK(queue.take_answers().empty());  // nobody else had asked
}

}  // namespace raylet
