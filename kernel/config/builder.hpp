// From the merged tree to a Config: finds modules, checks every setting against its declaration, then the rules across.
#pragma once

#include "kernel/config/sources.hpp"

namespace gantry::config {

// Names of the modules of a kind whose libraries lie in the directories, sorted.
[[nodiscard]] std::vector<std::string> available_modules(const std::vector<std::string>& dirs, const std::string& kind);

class Builder {
 public:
  explicit Builder(const Options& options) : options_(options) {}
  [[nodiscard]] Loaded build();

 private:
  // One [kind.name] table on its way to a ModuleConfig.
  void kernel(const Node* table);
  void kind(const std::string& kind, const Node& table);
  void module(const std::string& kind, const std::string& name, const Node& table);
  void sandbox(const std::string& title, const Node& table, ModuleConfig& module);
  [[nodiscard]] bool own_folder(const std::string& path) const;
  std::string find_library(const std::string& kind, const std::string& name, const Node& table, const Node* path);
  Values settings(const Manifest& manifest, const std::vector<const Node*>& tables, const std::string& title,
                  const Where& where, std::map<std::string, Where>& where_of);
  void rules(const Node* kernel_table);
  void address_rules(const Manifest& manifest, const Values& values, const std::map<std::string, Where>& where_of,
                     const std::string& title, const Where& where);
  void error(const Where& where, std::string message) {
    problems_.push_back({Severity::error, where, std::move(message)});
  }
  void warning(const Where& where, std::string message) {
    problems_.push_back({Severity::warning, where, std::move(message)});
  }

  const Options& options_;
  std::shared_ptr<Config> config_ = std::make_shared<Config>();
  std::vector<Problem> problems_;
  std::vector<std::pair<std::string, Where>> mentioned_;  // kind.name of every enabled table, faulty ones too
  bool broken_ = false;
};

}  // namespace gantry::config
