#include "legacy_json.hpp"

namespace gantry::gateway_mesos::legacy {

bool is_unreserved(const Amount& a, std::string_view) { return reservation_role(*a.like).empty(); }
bool is_reserved_for(const Amount& a, std::string_view role) { return reservation_role(*a.like) == role; }

std::set<std::string_view> reserved_roles(const Sums& sums) {
  std::set<std::string_view> out;
  for (const auto& a : sums.amounts())
    if (const auto role = reservation_role(*a.like); !role.empty()) out.insert(role);
  return out;
}

void labels(Json& j, const flatbuffers::Vector<flatbuffers::Offset<fb::Label>>& list) {
  j.open('[');
  for (const auto* l : list) {
    j.item();
    j.open('{');
    j.field("key", text(l->key()));
    if (l->value()) j.field("value", text(l->value()));
    j.close('}');
  }
  j.close(']');
}

void attributes(Json& j, const fb::AgentInfo& info) {
  j.open('{');
  if (info.attributes()) {
    for (const auto* a : *info.attributes()) {
      j.data_key(text(a->name()));
      if (a->text()) {
        j.text(text(a->text()));
      } else if (a->scalar()) {
        j.number(*a->scalar());
      } else if (a->ranges()) {
        std::string s = "[";
        for (const auto* r : *a->ranges())
          s += (s.size() > 1 ? ", " : "") + std::to_string(r->begin()) + "-" + std::to_string(r->end());
        j.text(s + "]");
      } else if (a->set()) {
        std::string s = "{";
        for (const auto* x : *a->set()) s += (s.size() > 1 ? ", " : "") + std::string(text(x));
        j.text(s + "}");
      } else {
        j.text("");
      }
    }
  }
  j.close('}');
}

void resource_list(Json& j, const Sums& sums, Which of, std::string_view role) {
  j.open('[');
  for (const auto& r : to_messages(sums, of, role)) {
    j.item();
    flatbuffers::FlatBufferBuilder b;
    b.Finish(fb::Resource::Pack(b, r.get()));
    j.message(*flatbuffers::GetRoot<fb::Resource>(b.GetBufferPointer()), "gantry.fb.Resource");
  }
  j.close(']');
}

}  // namespace gantry::gateway_mesos::legacy
