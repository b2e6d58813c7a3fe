// Writes first inputs for the fuzz targets: what real clients send. Usage: make_seeds <corpus directory>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "gcs/record.h"
#include "protocol/codec/id_codec.h"
#include "protocol/codec/random_words.h"
#include "protocol/codec/session_codec.h"
#include "protocol/wire/head.pb.h"
#include "protocol/wire/store.pb.h"

namespace raylet {
namespace {

void write(const std::filesystem::path& directory, int number, const std::string& bytes) {
  std::filesystem::create_directories(directory);
  std::ofstream(directory / ("seed" + std::to_string(number)), std::ios::binary) << bytes;
}

v1::ClientFrame random_frame(Rng& rng) {
  v1::ClientFrame frame;
  switch (rng.below(8)) {
    case 0:
      encode_graph_chunk(random_graph_chunk(rng), frame.mutable_graph_chunk());
      break;
    case 1:
      frame.mutable_get()->set_request(1);
      frame.mutable_get()->set_ids(random_object_id(rng).binary() + random_object_id(rng).binary());
      break;
    case 2:
      frame.mutable_references()->set_held(random_object_id(rng).binary());
      frame.mutable_references()->set_unpinned(random_object_id(rng).binary());
      frame.mutable_references()->add_unpin_counts(2);
      break;
    case 3:
      frame.mutable_put()->set_id(random_object_id(rng).binary());
      frame.mutable_put()->set_inline_value("value");
      frame.mutable_put()->set_contained(random_object_id(rng).binary());
      break;
    case 4:
      frame.mutable_cancel()->set_object(random_object_id(rng).binary());
      break;
    case 5:
      frame.mutable_find_actor()->set_request(3);
      frame.mutable_find_actor()->set_name("name");
      break;
    case 6:
      frame.mutable_slab_request()->set_request(4);
      frame.mutable_slab_request()->set_size_bytes(1 << 20);
      break;
    default: {
      v1::Results* results = frame.mutable_results();
      results->set_batch(2);
      for (uint32_t i = 0; i < 3; ++i) {
        results->add_positions(i);
        results->add_statuses(i % 2);
        results->add_durations_us(5);
      }
      for (uint32_t count : {1u, 2u}) results->add_return_counts(count);
      for (uint32_t kind : {0u, 1u, 0u}) results->add_return_kinds(kind);
      results->add_inline_values("a");
      results->add_inline_values("b");
      results->add_sealed()->set_slab(1);
      encode_failure(random_failure(rng), results->add_failures());
      results->add_contained()->set_return_ordinal(1);
      results->mutable_contained(0)->set_ids(random_object_id(rng).binary());
    }
  }
  return frame;
}

// A node, its job, a graph and a name, in any order: one request of head_request_fuzz.
std::string random_head_request(Rng& rng) {
  std::string node(16, static_cast<char>(1 + rng.below(2)));
  std::string job(16, static_cast<char>(3 + rng.below(2)));
  std::string graph(16, static_cast<char>(5 + rng.below(2)));
  std::string actor(28, static_cast<char>(7 + rng.below(2)));
  std::string bytes;
  int kind = 0;
  switch (rng.below(6)) {
    case 0: {
      v1::RegisterNodeRequest request;
      request.mutable_info()->set_node(node);
      request.mutable_info()->set_incarnation(1 + rng.below(2));
      bytes = request.SerializeAsString();
      break;
    }
    case 1: {
      v1::HeartbeatRequest request;
      request.set_node(node);
      request.set_incarnation(1);
      request.add_jobs(job);
      bytes = request.SerializeAsString();
      kind = 1;
      break;
    }
    case 2: {
      v1::RegisterJobRequest request;
      request.mutable_info()->set_job(job);
      request.mutable_info()->set_node(node);
      bytes = request.SerializeAsString();
      kind = 4;
      break;
    }
    case 3: {
      v1::RecordGraphRequest request;
      request.set_graph(graph);
      request.set_job(job);
      request.set_owner(node);
      request.set_owner_incarnation(1);
      request.set_part(static_cast<uint32_t>(rng.below(3)));
      request.set_last(rng.chance(0.3));
      request.set_record("record");
      bytes = request.SerializeAsString();
      kind = 7;
      break;
    }
    case 4: {
      v1::RegisterNameRequest request;
      request.set_name("name");
      request.set_actor(actor);
      request.set_job(job);
      request.set_node(node);
      bytes = request.SerializeAsString();
      kind = 10;
      break;
    }
    default: {
      v1::EndJobRequest request;
      request.set_job(job);
      bytes = request.SerializeAsString();
      kind = 5;
    }
  }
  kind += 13 * static_cast<int>(rng.below(15));
  return std::string(1, static_cast<char>(kind)) + static_cast<char>(bytes.size()) + bytes;
}

void make_seeds(const std::filesystem::path& corpus) {
  Rng rng(7);
  for (int i = 0; i < 60; ++i) {
    write(corpus / "client_frame_fuzz", i, random_frame(rng).SerializeAsString());
    v1::GraphChunk chunk;
    encode_graph_chunk(random_graph_chunk(rng), &chunk);
    write(corpus / "graph_chunk_fuzz", i, chunk.SerializeAsString());
    std::string steps(1, '\1');
    for (int step = 0; step < 40; ++step) {
      steps.push_back(static_cast<char>(3 + rng.below(11)));
      for (int byte = 0; byte < 6; ++byte) steps.push_back(static_cast<char>(rng.below(32)));
    }
    write(corpus / "store_command_fuzz", i, steps);
    std::string packets;
    for (uint64_t packet = rng.below(4); packet < 4; ++packet) {
      std::string frame = std::string(1, static_cast<char>(rng.below(3))) + random_string(rng, 30);
      packets.push_back(static_cast<char>(rng.below(16)));
      packets.push_back(static_cast<char>(frame.size()));
      packets.push_back('\0');
      packets += frame;
    }
    write(corpus / "packet_stream_fuzz", i, packets);
    std::string requests;
    for (int request = 0; request < 20; ++request) requests += random_head_request(rng);
    write(corpus / "head_request_fuzz", i, requests);
    GraphPartRecord part{{1, 2}, {3, 4}, {5, 6}, {7}, static_cast<uint32_t>(i), rng.chance(0.5), "chunk"};
    NameRecord name{"ns", random_string(rng, 9), random_object_id(rng), {3, 4}, {5, 6}, rng.chance(0.5), "handle"};
    std::string record = i % 2 == 0 ? encode(part) : encode(name);
    write(corpus / "head_record_fuzz", i, record.substr(0, record.size() - 4));  // the target adds a checksum
  }
}

}  // namespace
}  // namespace raylet

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make_seeds <corpus directory>\n";
    return 2;
  }
  raylet::make_seeds(argv[1]);
  return 0;
}
