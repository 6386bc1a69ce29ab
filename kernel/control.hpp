// The operator's conversation (sdk/schema/control.fbs): over sockets for `gantry`, as host service QUERY for modules.
//
// On the master's listener agents and operators share a port: an operator's first frame is `preamble`, an agent's is
// its Hello. On listeners of their own the preamble may be left out.
#pragma once

#include "kernel/module/module.hpp"
#include "kernel/net/net.hpp"

#include <gantry/control_generated.h>

#include <functional>
#include <memory>
#include <unordered_map>

namespace gantry::kernel {

inline constexpr std::string_view control_preamble = "gantry-control-1";

class Control final : public module::Service {
 public:
  // Runs any number of times, Answer.more true on all but the last.
  using Reply = std::function<void(fb::control::AnswerT)>;
  using Handler = std::function<void(const fb::control::QuestionT&, Reply)>;
  // Whether these credentials may ask; answers at once or later. `ok` also stands for "nobody needs to".
  using Authenticate = std::function<void(const std::string& principal, const std::string& secret, std::function<void(Status)>)>;

  // Whether `authenticate` looks at credentials at all. Where it does not, bodies of calls (TraceModule) are shown only to
  // trusted connections: whoever may look at tasks need not see what is in them.
  using Authenticates = std::function<bool()>;

  Control(Handler handler, Authenticate authenticate, Authenticates authenticates)
      : handler_(std::move(handler)), authenticate_(std::move(authenticate)), authenticates_(std::move(authenticates)) {}
  ~Control() override { *alive_ = false; }

  // Takes a connection of a control listener over. `trusted`: a unix socket only its owner can open; questions need no
  // credentials.
  void serve(net::LinkPtr link, bool trusted);
  // One frame of a connection somebody else owns.
  void on_frame(const net::LinkPtr& link, bool trusted, Bytes frame);
  [[nodiscard]] static bool is_preamble(Bytes frame);

  // QUERY: the body is a Question, the reply Answers. Modules are trusted as the kernel's own configuration.
  void request(const module::ServiceRequest& request, module::ServiceReply reply) override;

 private:
  Handler handler_;
  Authenticate authenticate_;
  Authenticates authenticates_;
  std::unordered_map<net::Link*, net::LinkPtr> links_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// A Problem as an answer.
[[nodiscard]] fb::control::AnswerT problem(const fb::control::QuestionT& question, const Error& error);

}  // namespace gantry::kernel
