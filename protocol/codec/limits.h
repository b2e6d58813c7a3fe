// The most of everything that one frame may carry. A frame beyond a limit is refused and changes nothing.
//
// These bound what a decoder can be made to allocate; a frame itself is at most kFrameBytesMax
// (plasma/ipc/packet.h). They are far above what our own clients send.
#pragma once

#include <cstddef>
#include <cstdint>

namespace raylet {

constexpr uint32_t kTasksPerChunkMax = 1 << 20;
constexpr uint64_t kTaskIndexMax = uint64_t{1} << 40;  // of a graph
constexpr size_t kDepsPerChunkMax = 1 << 24;
constexpr size_t kExternalsPerChunkMax = 1 << 20;
constexpr size_t kBorrowsPerChunkMax = 1 << 22;
constexpr size_t kWantedPerChunkMax = 1 << 22;
constexpr size_t kFunctionsPerChunkMax = 1 << 16;
constexpr size_t kOptionsPerChunkMax = 1 << 16;
constexpr size_t kNamesPerChunkMax = 1 << 20;
constexpr uint32_t kTasksPerGroupMax = 1024;
constexpr uint32_t kReturnsPerTaskMax = 10'000;
constexpr size_t kBlobBytesMax = 16 << 20;  // of a function, a group or a filter of exceptions

constexpr size_t kResourceNamesMax = 256;  // of one task
constexpr size_t kTaskNameBytesMax = 1024; // a longer name is cut: it is for people only
constexpr size_t kNameBytesMax = 4096;     // of functions, methods, actors, namespaces, resources

constexpr size_t kIdsPerFrameMax = 1 << 21;
constexpr size_t kResultsPerFrameMax = 1 << 16;
// Of one value in a message. Clients are told a smaller one in their hello; beyond that the store serves better.
constexpr size_t kInlineValueBytesMax = 1 << 20;
constexpr size_t kFailureCauseBytesMax = 16 << 20;
constexpr size_t kFailureTextBytesMax = 256 << 10;  // longer messages and tracebacks are cut
constexpr uint64_t kSlabBytesMax = uint64_t{1} << 46;

constexpr size_t kAnswerBytesMax = 4 << 20;  // of inline values in one frame to a client
constexpr size_t kAnswersPerFrameMax = 1 << 16;

}  // namespace raylet
