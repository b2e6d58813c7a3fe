// Names of actors, by namespace: the first to take a name has it until it forgets it, its job ends (unless
// it is detached) or the node of its actor is gone.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gcs/record.h"
#include "protocol/words/ids.h"

namespace raylet {

class NameTable {
 public:
  using Key = std::pair<std::string, std::string>;  // namespace, name

  size_t size() const { return names_.size(); }
  uint64_t handle_bytes() const { return handle_bytes_; }
  const std::map<Key, NameRecord>& names() const { return names_; }
  const NameRecord* find(const std::string& name_space, const std::string& name) const;

  // REQUIRES: nobody has the name.
  void add(NameRecord record);
  // Forgets every name that `gone` says yes to and appends the deletes.
  template <typename Predicate>
  void remove_if(Predicate gone, std::vector<Write>& writes) {
    for (auto at = names_.begin(); at != names_.end();) {
      at = gone(at->second) ? erase(at, writes) : std::next(at);
    }
  }
  // REQUIRES: somebody has the name.
  void remove(const std::string& name_space, const std::string& name, std::vector<Write>& writes);
  void validate() const;

 private:
  std::map<Key, NameRecord>::iterator erase(std::map<Key, NameRecord>::iterator at, std::vector<Write>& writes);

  std::map<Key, NameRecord> names_;
  uint64_t handle_bytes_ = 0;
};

}  // namespace raylet
