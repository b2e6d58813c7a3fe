#include "daemons/kit/log_tail.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plasma/ipc/packet.h"

namespace raylet {

std::string read_tail(const std::string& path, size_t bytes_max) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file.valid() || fstat(file.number(), &status) != 0 || status.st_size <= 0) return {};
  size_t size = static_cast<size_t>(status.st_size);
  size_t from = size > bytes_max ? size - bytes_max : 0;
  std::string text(size - from, '\0');
  ssize_t got = pread(file.number(), text.data(), text.size(), static_cast<off_t>(from));
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  if (from > 0) {
    if (size_t line = text.find('\n'); line != std::string::npos) text.erase(0, line + 1);
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace raylet
