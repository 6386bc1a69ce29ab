// The conversation with a daemon: one Question, one Answer, over a unix socket or TCP (control.fbs).
#pragma once

#include "kernel/base/fd.hpp"
#include "tools/gantry/cli.hpp"

#include <gantry/control_generated.h>
#include <gantry/message.hpp>

#include <functional>

namespace gantry::cli {

// Blocking; one question at a time.
class Daemon {
 public:
  // address: a path, "unix:/path" or "host:port".
  static Result<Daemon> connect(const std::string& address);
  // The address of the context, else the places where a daemon usually listens. The error says how to name one.
  static Result<Daemon> find(const Context&);

  // Sends a question and reads answers until the last; `each` gets every one. Problem answers become errors.
  Status ask(fb::control::QuestionT question, const std::function<void(const fb::control::AnswerT&)>& each);
  // The same in two steps, for conversations: sends a question and gives its id, and reads the next answer, whosever it is. Problems
  // are answers here. fd() is readable when one may be there.
  Result<std::uint64_t> send(fb::control::QuestionT question);
  Result<fb::control::AnswerT> receive();
  [[nodiscard]] int fd() const { return fd_.get(); }
  // For questions with one kind of answer; the parts of a stream are handed to `each` in turn.
  template <class Say, class Ask, class Each>
  Status ask_for(Ask ask_table, Each each) {
    fb::control::QuestionT q;
    q.ask.Set(std::move(ask_table));
    std::string wrong;
    GANTRY_CHECK(ask(std::move(q), [&](const fb::control::AnswerT& a) {
      if (a.say.type == fb::control::SayUnionTraits<Say>::enum_value) {
        each(*static_cast<const Say*>(a.say.value));
      } else {
        wrong = fb::control::EnumNameSay(a.say.type);
      }
    }));
    if (!wrong.empty())
      return fail(Code::internal,
                  address_ + " answered with an unexpected " + wrong + "; are gantry and gantryd of the same release?");
    return ok;
  }
  void credentials(std::string principal, std::string secret) {
    principal_ = std::move(principal);
    secret_ = std::move(secret);
  }
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  Daemon(base::Fd fd, std::string address) : fd_(std::move(fd)), address_(std::move(address)) {}
  Status write(Bytes bytes);
  Status read(std::uint8_t* to, std::size_t n);

  base::Fd fd_;
  std::string address_;
  std::string principal_, secret_;
  std::uint64_t last_id_ = 0;
};

}  // namespace gantry::cli
