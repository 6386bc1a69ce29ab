// One HTTP request and the way to answer it, over the host service HTTP.
#pragma once

#include <gantry/host.hpp>

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gantry::gateway_mesos {

inline constexpr std::string_view kJson = "application/json";
inline constexpr std::string_view kProtobuf = "application/x-protobuf";
inline constexpr std::string_view kText = "text/plain; charset=utf-8";

using Headers = std::vector<std::pair<std::string, std::string>>;

// Held by whoever still has to answer. Lives on the strand. Only the first answer counts; later ones are dropped.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  // `prefix`: what may stand before a path besides "/master", e.g. "/slave(1)" on agents.
  Exchange(Host& host, Buffer request, std::string_view prefix = "/master");  // a Request that was verified
  Exchange(Host& host, const fb::host::RequestT& request) : Exchange(host, pack(request)) {}

  // ---- the request
  [[nodiscard]] const std::string& method() const { return method_; }
  [[nodiscard]] const std::string& target() const { return target_; }  // as sent
  // Decoded, without "/master" before it, without slashes at its end; "/" for the root.
  [[nodiscard]] const std::string& path() const { return path_; }
  // The part of path() behind the route's own, e.g. "S0" of "/slaves/S0"; set by the router.
  [[nodiscard]] const std::string& rest() const { return rest_; }
  void rest(std::string r) { rest_ = std::move(r); }
  // "?a=b", undecoded, or empty.
  [[nodiscard]] std::string_view query_text() const;
  // A query parameter, decoded; nullptr when absent.
  [[nodiscard]] const std::string* query(std::string_view key) const;
  // A header by its lower-case name; nullptr when absent.
  [[nodiscard]] const std::string* header(std::string_view name) const;
  [[nodiscard]] Bytes body() const;
  [[nodiscard]] const std::string& principal() const { return principal_; }  // empty: not authenticated
  void principal(std::string who) { principal_ = std::move(who); }           // by whoever judged the credentials
  [[nodiscard]] std::string_view peer() const;

  // ---- the answer
  void answer(unsigned status, std::string_view body = {}, std::string_view type = {}, Headers headers = {});
  // A sentence for people; no Content-Type if it is empty, as clients compare it.
  void text(unsigned status, std::string_view sentence, Headers headers = {}) {
    answer(status, sentence, sentence.empty() ? std::string_view() : kText, std::move(headers));
  }
  // The same for a body that may be large and that several answers may share: it leaves in pieces, as the client takes them, so that
  // nothing of it is copied as a whole and nobody waits behind it.
  using Shared = std::shared_ptr<const std::string>;
  void answer_shared(unsigned status, Shared body, std::string_view type, Headers headers = {});
  // A stream. Each piece leaves as one HTTP chunk. on_gone runs once, when the client has gone or was cut off because
  // it read too slowly, unless the stream has ended before.
  void begin(unsigned status, std::string_view type, Headers headers, std::string_view first, Function<void()> on_gone);
  void write(std::string_view piece);
  // The same for whoever has much to send: `then` runs when there is room for more, never once the client has gone.
  void write(std::string_view piece, Function<void()> then);
  void end();
  [[nodiscard]] bool answered() const { return state_ != State::open; }
  [[nodiscard]] bool streaming() const { return state_ == State::streaming; }

 private:
  enum class State { open, streaming, done };
  void send(unsigned status, std::string_view body, std::string_view type, const Headers& headers, bool more);
  void send(Bytes respond, Host::Reply reply);
  void next_piece(const Shared& body, std::size_t at);
  void gone();
  [[nodiscard]] const fb::host::Request& request() const { return *flatbuffers::GetRoot<fb::host::Request>(request_.data()); }

  Host& host_;
  Buffer request_;
  std::uint64_t id_ = 0;
  std::string method_, target_, principal_, path_, rest_;
  mutable std::deque<std::pair<std::string_view, std::string>> headers_;  // those asked for
  std::vector<std::pair<std::string, std::string>> query_;
  State state_ = State::open;
  std::uint64_t watch_ = 0;
  Function<void()> on_gone_;
};
using ExchangePtr = std::shared_ptr<Exchange>;

// Answers with the status that fits an error of the kernel, and its sentence.
void exchange_error(const ExchangePtr& exchange, const Error& error);

// "%2F" -> "/", "+" -> " " (in queries). What is no escape stays as it is.
[[nodiscard]] std::string percent_decode(std::string_view text, bool plus_is_space);

// The first of `offered` that the value of an Accept header allows, empty if none. Ranges (*/*, application/*), q=0 and
// parameters are honoured; an absent or empty header allows everything.
[[nodiscard]] std::string_view negotiate(const std::string* accept, std::initializer_list<std::string_view> offered);

// A media type without its parameters, in lower case: "application/json" of "Application/JSON; charset=utf-8".
[[nodiscard]] std::string media_type(std::string_view header);

}  // namespace gantry::gateway_mesos
