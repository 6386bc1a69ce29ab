#include "kernel/control.hpp"

#include <algorithm>

namespace gantry::kernel {

fb::control::AnswerT problem(const fb::control::QuestionT& question, const Error& error) {
  fb::control::AnswerT answer;
  answer.id = question.id;
  fb::control::ProblemT p;
  p.code = static_cast<int>(error.code);
  p.message = error.message;
  answer.say.Set(std::move(p));
  return answer;
}

void Control::serve(net::LinkPtr link, bool trusted) {
  net::Link* raw = link.get();
  links_[raw] = link;
  const std::weak_ptr<net::Link> weak = link;
  link->on_frame([this, weak, trusted, alive = alive_](Bytes frame) {
    if (const auto l = weak.lock(); l && *alive) on_frame(l, trusted, frame);
  });
  link->on_closed([this, raw, alive = alive_](const Error&) {
    if (*alive) links_.erase(raw);
  });
}

bool Control::is_preamble(Bytes frame) {
  return frame.size() == control_preamble.size() && std::equal(frame.begin(), frame.end(), control_preamble.begin());
}

namespace {
// More than looking: who may do that has the rights of the tasks themselves.
bool changes_containers(fb::control::Ask type) {
  using Ask = fb::control::Ask;
  return type == Ask::Exec || type == Ask::SessionInput || type == Ask::PullImage || type == Ask::PruneImages;
}
}  // namespace

void Control::on_frame(const net::LinkPtr& link, bool trusted, Bytes frame) {
  if (is_preamble(frame)) return;
  auto question = unpack<fb::control::Question>(frame);
  if (!question) {
    link->send(pack(problem({}, fail(Code::invalid_argument, "that frame is no question of this protocol; client and daemon may be of different releases"))));
    link->close();
    return;
  }
  if (!question->ask.value) question->ask.Reset();  // the verifier accepts a type without a body
  auto asked = std::make_shared<fb::control::QuestionT>(std::move(*question));
  const std::weak_ptr<net::Link> weak = link;
  Reply reply = [weak, asked](fb::control::AnswerT answer) {
    answer.id = asked->id;
    // A reader too slow for its answers is cut off by the link.
    if (const auto l = weak.lock()) l->send(pack(answer));
  };
  if (trusted) return handler_(*asked, std::move(reply));
  if (const auto* trace = asked->ask.AsTraceModule(); trace && trace->bodies && !authenticates_())
    return reply(problem(*asked, fail(Code::permission_denied,
                                      "what calls contain is shown only on the daemon's own socket (--address "
                                      "<work_dir>/gantry.sock, on its machine), because it runs with kernel.authenticate = false")));
  if (changes_containers(asked->ask.type) && !authenticates_())
    return reply(problem(*asked, fail(Code::permission_denied,
                                      "commands in containers and changes to images are taken only on the daemon's own socket (--address <work_dir>/gantry.sock, on its "
                                      "machine), because it runs with kernel.authenticate = false")));
  authenticate_(asked->principal, asked->secret, [this, asked, reply = std::move(reply), alive = alive_](const Status& status) {
    if (!*alive) return;
    if (!status) return reply(problem(*asked, status.error()));
    handler_(*asked, reply);
  });
}

void Control::request(const module::ServiceRequest& request, module::ServiceReply reply) {
  auto question = unpack<fb::control::Question>(request.body);
  if (!question) {
    reply(static_cast<gantry_code>(Code::invalid_argument), pack_error(question.error()));
    return;
  }
  // A module is not to read what others are told.
  using Ask = fb::control::Ask;
  const auto type = question->ask.type;
  if (type == Ask::TraceModule || type == Ask::ReadTrace || type == Ask::EndTrace || type == Ask::Exec || type == Ask::SessionInput) {
    reply(GANTRY_PERMISSION_DENIED, pack_error(fail(Code::permission_denied, "traces and commands in containers are for operators, not for modules")));
    return;
  }
  handler_(*question, [reply = std::move(reply)](const fb::control::AnswerT& answer) {
    reply(answer.more ? GANTRY_MORE : GANTRY_OK, pack(answer));
  });
}

}  // namespace gantry::kernel
