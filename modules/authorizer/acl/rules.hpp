// Access control lists in the form of Mesos: parsed, and asked. Pure; any thread.
//
// Contract: reference mesos-kernel.md A11 ("first matching ACL wins; permissive default true") and the ACL file of Mesos. A list is
// chosen by the action; in it the first rule whose subjects and objects match decides; where none matches, `permissive` does.
#pragma once

#include <gantry/result.hpp>

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::authorizer_acl {

// Subjects or objects of a rule.
struct Entity {
  enum class Type { some, any, none };
  Type type = Type::some;
  std::set<std::string, std::less<>> values;
  std::vector<std::string> below;  // "eng/": all roles nested in eng, written "eng/%"

  [[nodiscard]] bool lists(std::string_view word) const;
};

struct Rule {
  Entity subjects, objects;
};

struct Action;  // a row of the table of actions

class Acls {
 public:
  // The document as a whole, or what is wrong, with the field it is in: "acls.run_tasks[0].users.type: ...".
  static Result<Acls> parse(std::string_view json);

  // nullopt: nobody was authenticated; any object at all.
  [[nodiscard]] bool allowed(std::optional<std::string_view> principal, std::string_view action, std::optional<std::string_view> object) const;
  [[nodiscard]] bool permissive() const { return permissive_; }
  [[nodiscard]] std::size_t rules() const;
  // What was accepted although Mesos no longer knows it.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  friend class Reader;
  bool permissive_ = true;
  std::vector<std::vector<Rule>> lists_;  // by the row of the action
  std::vector<std::string> warnings_;
};

// Names of the lists a file may have, for tests and messages.
[[nodiscard]] std::vector<std::string_view> list_names();

}  // namespace gantry::authorizer_acl
