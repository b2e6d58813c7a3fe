// Cluster: the mind of the head. Members and the view of them, jobs, recorded graphs, names of actors.
//
// What is durable (which node, job, graph and name there is) changes in memory at once, goes out as a
// PersistWrites effect at the end of the step, one for all of the step's changes, and is acknowledged when
// that ticket's WritesPersisted has come. An answer that says something about a table waits for the last write
// to that table, so that nobody is ever told what a restart could take back. What is not durable (who is
// silent, what is free where, leases) is answered at once, whatever the disk does.
//
// Each change of a request is in one PersistWrites, which is written whole or not at all.
//
// Single-threaded; knows no clock, socket, thread, file or log.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "gcs/cluster_options.h"
#include "gcs/cluster_report.h"
#include "gcs/effects.h"
#include "gcs/events.h"
#include "gcs/record.h"
#include "protocol/words/time.h"

namespace raylet {

class Cluster {
 public:
  explicit Cluster(ClusterOptions options);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // Takes in what an earlier life left on disk. Nodes and jobs count as heard `now`. Records that can't be
  // read, or that contradict others, are refused. REQUIRES: nothing was stepped yet.
  LoadReport load(Instant now, const std::vector<StoredRecord>& records);

  // Takes in `events` in their order and appends what must be done to `effects`, which the caller reuses.
  // `now` never goes back.
  void step(Instant now, std::span<HeadEvent> events, std::vector<HeadEffect>& effects);

  // Everything that should be on disk once all tickets so far are: for a disk that has lost it.
  std::vector<Write> everything() const;

  ClusterReport report() const;

  // Stops the process if the tables contradict each other. Linear in what the head knows: for tests.
  void validate() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace raylet
