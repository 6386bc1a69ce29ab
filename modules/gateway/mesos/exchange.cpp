#include "exchange.hpp"

#include <algorithm>
#include <cstdlib>

namespace gantry::gateway_mesos {
namespace {

constexpr std::size_t kPiece = 256u << 10;  // of an answer that is sent in pieces

std::uint32_t number(fb::host::HttpMethod m) { return static_cast<std::uint32_t>(m); }

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

// Calls fn with each part between separators.
template <class F>
void split(std::string_view s, char at, F fn) {
  while (!s.empty()) {
    const auto n = std::min(s.find(at), s.size());
    fn(s.substr(0, n));
    s.remove_prefix(std::min(n + 1, s.size()));
  }
}

}  // namespace

std::string percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      out += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      i += 2;
    } else {
      out += plus_is_space && text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

std::string media_type(std::string_view header) { return lower(trimmed(header.substr(0, header.find(';')))); }

std::string_view negotiate(const std::string* accept, std::initializer_list<std::string_view> offered) {
  if (!accept || trimmed(*accept).empty()) return *offered.begin();
  for (const std::string_view type : offered) {
    // The most exact range that matches decides.
    int best = -1;
    bool allowed = false;
    split(*accept, ',', [&](std::string_view one) {
      const std::string range = media_type(one);
      int exactness = -1;
      if (range == type)
        exactness = 2;
      else if (range == std::string(type.substr(0, type.find('/'))) + "/*")
        exactness = 1;
      else if (range == "*/*" || range == "*")
        exactness = 0;
      if (exactness <= best) return;
      bool zero = false;
      const auto at = one.find(';');
      if (at != std::string_view::npos) {
        split(one.substr(at + 1), ';', [&](std::string_view parameter) {
          parameter = trimmed(parameter);
          if (parameter.starts_with("q=") || parameter.starts_with("Q="))
            zero = std::strtod(std::string(parameter.substr(2)).c_str(), nullptr) <= 0;
        });
      }
      best = exactness;
      allowed = !zero;
    });
    if (best >= 0 && allowed) return type;
  }
  return {};
}

Exchange::Exchange(Host& host, Buffer request, std::string_view prefix) : host_(host), request_(std::move(request)) {
  const auto& r = this->request();
  id_ = r.id();
  method_ = gantry::text(r.method());
  target_ = gantry::text(r.target());
  principal_ = gantry::text(r.principal());
  const std::string_view target = target_;
  const auto mark = std::min(target.find('?'), target.size());
  path_ = percent_decode(target.substr(0, mark), false);
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  if (path_ == prefix)
    path_ = "/";
  else if (path_.starts_with(prefix) && path_[prefix.size()] == '/')
    path_.erase(0, prefix.size());
  if (path_.empty()) path_ = "/";
  if (mark < target.size()) {
    split(target.substr(mark + 1), '&', [&](std::string_view pair) {
      const auto eq = std::min(pair.find('='), pair.size());
      if (eq == 0) return;
      query_.emplace_back(percent_decode(pair.substr(0, eq), true),
                          percent_decode(pair.substr(std::min(eq + 1, pair.size())), true));
    });
  }
}

std::string_view Exchange::query_text() const {
  const std::string_view target = target_;
  const auto mark = target.find('?');
  return mark == std::string_view::npos ? std::string_view() : target.substr(mark);
}

const std::string* Exchange::query(std::string_view key) const {
  for (const auto& [k, v] : query_)
    if (k == key) return &v;
  return nullptr;
}

const std::string* Exchange::header(std::string_view name) const {
  for (const auto& [known, value] : headers_)
    if (known == name) return &value;
  if (const auto* list = request().headers())
    for (const auto* h : *list)
      if (gantry::text(h->name()) == name) return &headers_.emplace_back(gantry::text(h->name()), gantry::text(h->value())).second;
  return nullptr;
}

Bytes Exchange::body() const {
  const auto* b = request().body();
  return b ? Bytes{b->data(), b->size()} : Bytes{};
}

std::string_view Exchange::peer() const { return gantry::text(request().peer()); }

void Exchange::send(unsigned status, std::string_view body, std::string_view type, const Headers& headers, bool more) {
  flatbuffers::FlatBufferBuilder b(256 + body.size());
  std::vector<flatbuffers::Offset<fb::host::Header>> list;
  const auto add = [&](std::string_view name, std::string_view value) {
    const auto n = b.CreateString(name.data(), name.size()), v = b.CreateString(value.data(), value.size());
    list.push_back(fb::host::CreateHeader(b, n, v));
  };
  for (const auto& [name, value] : headers) add(name, value);
  if (!type.empty()) add("Content-Type", type);
  const auto heads = list.empty() ? 0 : b.CreateVector(list);
  const auto bytes = body.empty() ? 0 : b.CreateVector(reinterpret_cast<const std::uint8_t*>(body.data()), body.size());
  b.Finish(fb::host::CreateRespond(b, id_, static_cast<std::uint16_t>(status), heads, bytes, more));
  Host::Reply reply = [](gantry_code, Bytes) {};
  if (more) {
    reply = [weak = weak_from_this()](gantry_code code, Bytes) {
      if (code >= 0) return;
      if (const auto self = weak.lock()) self->gone();
    };
  }
  send(Bytes(b.GetBufferPointer(), b.GetSize()), std::move(reply));
}

void Exchange::send(Bytes respond, Host::Reply reply) {
  host_.stream(fb::host::Service::HTTP, number(fb::host::HttpMethod::RESPOND), respond, std::move(reply));
}

void Exchange::answer_shared(unsigned status, Shared body, std::string_view type, Headers headers) {
  if (state_ != State::open) return;
  if (body->size() <= kPiece) return answer(status, std::string_view(*body), type, std::move(headers));
  state_ = State::done;
  fb::host::RespondT head;
  head.id = id_;
  head.status = static_cast<std::uint16_t>(status);
  head.more = true;
  headers.emplace_back("Content-Length", std::to_string(body->size()));
  if (!type.empty()) headers.emplace_back("Content-Type", type);
  for (auto& [name, value] : headers) {
    auto h = std::make_unique<fb::host::HeaderT>();
    h->name = name;
    h->value = value;
    head.headers.push_back(std::move(h));
  }
  send(Bytes(pack(head)), [](gantry_code, Bytes) {});
  next_piece(body, 0);
}

// The reply comes when there is room for more, or says that the client has gone.
void Exchange::next_piece(const Shared& body, std::size_t at) {
  const std::size_t size = std::min(kPiece, body->size() - at);
  const bool last = at + size == body->size();
  flatbuffers::FlatBufferBuilder b(size + 128);
  const auto bytes = b.CreateVector(reinterpret_cast<const std::uint8_t*>(body->data()) + at, size);
  b.Finish(fb::host::CreateRespond(b, id_, 0, 0, bytes, !last));
  send(Bytes(b.GetBufferPointer(), b.GetSize()), [self = shared_from_this(), body, next = at + size, last](gantry_code code, Bytes) {
    if (code >= 0 && !last) self->next_piece(body, next);
  });
}

void Exchange::answer(unsigned status, std::string_view body, std::string_view type, Headers headers) {
  if (state_ != State::open) return;
  state_ = State::done;
  send(status, body, type, headers, false);
}

void Exchange::begin(unsigned status, std::string_view type, Headers headers, std::string_view first,
                     Function<void()> on_gone) {
  if (state_ != State::open) return;
  state_ = State::streaming;
  on_gone_ = std::move(on_gone);
  send(status, first, type, headers, true);
  fb::host::WatchT watch;
  watch.id = id_;
  const Buffer body = pack(watch);
  watch_ = host_.stream(fb::host::Service::HTTP, number(fb::host::HttpMethod::WATCH), body,
                        [weak = weak_from_this()](gantry_code, Bytes) {
                          if (const auto self = weak.lock()) {
                            self->watch_ = 0;
                            self->gone();
                          }
                        });
}

void Exchange::write(std::string_view piece) {
  if (state_ == State::streaming && !piece.empty()) send(0, piece, {}, {}, true);
}

void Exchange::write(std::string_view piece, Function<void()> then) {
  if (state_ != State::streaming) return;
  flatbuffers::FlatBufferBuilder b(piece.size() + 128);
  const auto bytes = b.CreateVector(reinterpret_cast<const std::uint8_t*>(piece.data()), piece.size());
  b.Finish(fb::host::CreateRespond(b, id_, 0, 0, bytes, true));
  send(Bytes(b.GetBufferPointer(), b.GetSize()), [self = shared_from_this(), then = std::move(then)](gantry_code code, Bytes) mutable {
    if (code < 0) return self->gone();
    if (self->state_ == State::streaming) then();
  });
}

void Exchange::end() {
  if (state_ != State::streaming) return;
  state_ = State::done;
  on_gone_ = nullptr;
  send(0, {}, {}, {}, false);
}

void Exchange::gone() {
  if (state_ != State::streaming) return;
  state_ = State::done;
  if (watch_) host_.cancel_request(std::exchange(watch_, 0));
  if (auto fn = std::exchange(on_gone_, nullptr)) fn();
}

void exchange_error(const ExchangePtr& exchange, const Error& error) {
  switch (error.code) {
    case Code::invalid_argument:
    case Code::not_found:
      return exchange->text(400, error.message);
    case Code::permission_denied:
    case Code::failed_precondition:
      return exchange->text(403, error.message);
    case Code::unauthenticated:
      return exchange->text(401, error.message);
    case Code::unimplemented:
      return exchange->text(501, error.message);
    case Code::already_exists:
    case Code::aborted:
      return exchange->text(409, error.message);
    case Code::resource_exhausted:
      return exchange->text(429, error.message, {{"Retry-After", "1"}});
    case Code::unavailable:
    case Code::deadline_exceeded:
      return exchange->text(503, error.message);
    default:
      return exchange->text(500, error.message);
  }
}

}  // namespace gantry::gateway_mesos
