#include "@NAME_ID@.hpp"

namespace @NAME_ID@ {

using namespace gantry;

// Called again with settings.reload() when the operator changed what the manifest marks reloadable.
Task<Status> @CLASS@::configure(Settings settings) {
  admin_ = settings.text("admin");
  if (admin_.empty()) co_return fail(Code::invalid_argument, "admin is empty: nobody could do anything", "admin");
  users_.clear();
  users_.insert(settings.list("users").begin(), settings.list("users").end());
  // Whoever asked may have kept the verdicts.
  for (const auto& [token, responder] : followers_) responder.more({});
  co_return ok;
}

Task<Status> @CLASS@::stop() {
  followers_.clear();
  co_return ok;
}

// The actions and what word each is asked with: docs/authorizer.md. One you do not know is a question, too.
bool @CLASS@::allowed(std::string_view principal, std::string_view action, std::string_view object) const {
  if (principal == admin_) return true;
  if (action == "run_task") return users_.find(object) != users_.end();
  return action.starts_with("view_");
}

Task<Result<fb::authorizer::VerdictsT>> @CLASS@::authorize(Request<fb::authorizer::Questions> request) {
  fb::authorizer::VerdictsT out;
  // An absent principal: nobody was authenticated. An absent object: any object at all.
  if (const auto* questions = request->questions())
    for (const auto* q : *questions) out.allowed.push_back(allowed(text(request->principal()), text(q->action()), text(q->object())));
  co_return out;
}

void @CLASS@::changed(Responder responder) {
  const std::uint64_t token = responder.token();
  followers_.insert_or_assign(token, std::move(responder));
}

void @CLASS@::cancelled(std::uint64_t token) { followers_.erase(token); }

}  // namespace @NAME_ID@
