// A part of a graph: what is let through holds what protocol/words/graph_chunk.h promises, and comes back from
// the wire as it went there.
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>

#include "protocol/codec/session_codec.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);  // it has something to say about most inputs
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace raylet;
  v1::GraphChunk message;
  if (!message.ParseFromArray(data, static_cast<int>(size))) return 0;
  Result<GraphChunk> chunk = decode_graph_chunk(std::move(message), size);
  if (!chunk.ok()) return 0;
  auto sum = [](const std::vector<uint32_t>& counts) {
    return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  };
  auto column = [&](const std::vector<uint32_t>& entries) {
    return entries.empty() || entries.size() == chunk->task_count;
  };
  MUST(sum(chunk->group_sizes) == chunk->task_count);
  MUST(chunk->group_blobs.size() == chunk->group_sizes.size());
  MUST(column(chunk->function_numbers) && column(chunk->dep_counts) && column(chunk->borrow_counts));
  MUST(column(chunk->return_counts) && column(chunk->option_numbers) && column(chunk->name_numbers));
  MUST(sum(chunk->dep_counts) == chunk->deps.size());
  MUST(sum(chunk->borrow_counts) == chunk->borrows.size());
  MUST(chunk->dep_returns.empty() || chunk->dep_returns.size() == chunk->deps.size());
  for (uint64_t dep : chunk->deps) MUST(dep % 2 == 0 || dep / 2 < chunk->externals.size());
  for (uint32_t borrow : chunk->borrows) MUST(borrow < chunk->externals.size());
  for (uint32_t option : chunk->option_numbers) MUST(option <= chunk->options.size());
  for (uint32_t name : chunk->name_numbers) MUST(name < chunk->names.size());

  v1::GraphChunk once;
  encode_graph_chunk(*chunk, &once);
  std::string wire = once.SerializeAsString();
  Result<GraphChunk> again = decode_graph_chunk(std::move(once), size);
  MUST(again.ok(), "what was let through is let through again");
  v1::GraphChunk twice;
  encode_graph_chunk(*again, &twice);
  MUST(twice.SerializeAsString() == wire);
  return 0;
}
