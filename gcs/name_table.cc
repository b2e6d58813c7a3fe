#include "gcs/name_table.h"

namespace raylet {

const NameRecord* NameTable::find(const std::string& name_space, const std::string& name) const {
  auto at = names_.find({name_space, name});
  return at == names_.end() ? nullptr : &at->second;
}

void NameTable::add(NameRecord record) {
  handle_bytes_ += record.handle.size();
  Key key{record.name_space, record.name};
  bool added = names_.emplace(std::move(key), std::move(record)).second;
  MUST(added, "a name was given twice");
}

void NameTable::remove(const std::string& name_space, const std::string& name, std::vector<Write>& writes) {
  auto at = names_.find({name_space, name});
  MUST(at != names_.end(), "forgot a name that nobody has");
  erase(at, writes);
}

std::map<NameTable::Key, NameRecord>::iterator NameTable::erase(std::map<Key, NameRecord>::iterator at,
                                                                std::vector<Write>& writes) {
  handle_bytes_ -= at->second.handle.size();
  writes.push_back({Table::kNames, name_key(at->first.first, at->first.second), nullptr});
  return names_.erase(at);
}

void NameTable::validate() const {
  uint64_t bytes = 0;
  for (const auto& [key, record] : names_) {
    MUST(key == Key(record.name_space, record.name), "a name under another's key");
    bytes += record.handle.size();
  }
  MUST(bytes == handle_bytes_, "the bytes of handles don't add up");
}

}  // namespace raylet
