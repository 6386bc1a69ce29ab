#include "tests/bench/mesos_rig.hpp"

#include "wire/codec.hpp"

#include <gantry/framework_generated.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <dirent.h>
#include <fstream>
#include <thread>

namespace gantry::bench {

namespace {

using gateway_mesos::wire::Codec;

[[noreturn]] void stop(const std::string& why) { throw std::runtime_error(why); }

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a = loopback(0);
  socklen_t size = sizeof a;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&a), size) != 0 || ::getsockname(fd, reinterpret_cast<sockaddr*>(&a), &size) != 0) stop("no free port");
  ::close(fd);
  return ntohs(a.sin_port);
}

int dial(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in a = loopback(port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0) {
    ::close(fd);
    return -1;
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) stop("the master closed a connection");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

// The text between `before` and the next quote, behind `from`; empty if there is none.
std::string_view quoted(std::string_view json, std::string_view before, std::size_t from = 0) {
  const auto at = json.find(before, from);
  if (at == std::string_view::npos) return {};
  const auto begin = at + before.size();
  return json.substr(begin, json.find('"', begin) - begin);
}

// ---- protobuf, as little as is needed

struct Reader {
  const char* p;
  const char* end;
  explicit Reader(std::string_view s) : p(s.data()), end(s.data() + s.size()) {}
  std::uint64_t varint() {
    std::uint64_t v = 0;
    for (int shift = 0; p < end; shift += 7) {
      const auto b = static_cast<unsigned char>(*p++);
      v |= std::uint64_t{b & 127u} << shift;
      if (b < 128) return v;
    }
    stop("a truncated number from the master");
  }
  // Calls fn(number, value, bytes) for each field.
  template <class F>
  void each(F fn) {
    while (p < end) {
      const std::uint64_t tag = varint();
      std::uint64_t value = 0;
      std::string_view bytes;
      switch (tag & 7) {
        case 0: value = varint(); break;
        case 1: p += 8; break;
        case 5: p += 4; break;
        case 2: {
          const auto n = varint();
          bytes = {p, static_cast<std::size_t>(n)};
          p += n;
          break;
        }
        default: stop("an unknown wire type from the master");
      }
      fn(static_cast<unsigned>(tag >> 3), value, bytes);
    }
  }
};
std::string_view inner(std::string_view message) {  // field 1 of an id
  std::string_view out;
  Reader(message).each([&](unsigned number, std::uint64_t, std::string_view bytes) {
    if (number == 1) out = bytes;
  });
  return out;
}
void put_varint(std::string& out, std::uint64_t v) {
  for (; v > 127; v >>= 7) out += static_cast<char>(v | 128);
  out += static_cast<char>(v);
}
void put_field(std::string& out, unsigned number, std::string_view bytes) {
  put_varint(out, number << 3 | 2);
  put_varint(out, bytes.size());
  out += bytes;
}
std::string id_message(std::string_view value) {
  std::string out;
  put_field(out, 1, value);
  return out;
}

}  // namespace

// ---- the master

MesosMaster::MesosMaster(const std::string& bin_dir, const std::string& kernel_settings, const std::string& gateway_settings) {
  api = free_port();
  links = free_port();
  const std::string config = dir_.path() + "/gantry.toml", program = bin_dir + "/gantryd";
  std::ofstream(config) << "[kernel]\nrole = [\"master\"]\nwork_dir = \"" << dir_.path() << "/work\"\nlisten = \"127.0.0.1:" << links
                        << "\"\nlog_level = \"error\"\n"
                        << kernel_settings << "\n[election.standalone]\nmaster = \"127.0.0.1:" << links
                        << "\"\n[store.lmdb]\n[allocator.drf]\n[gateway.mesos]\naddress = \"127.0.0.1:" << api << "\"\n"
                        << gateway_settings << "\n";
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::execl(program.c_str(), "gantryd", "--config", config.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  const auto start = Clock::now();
  for (;;) {
    if (::waitpid(pid_, nullptr, WNOHANG) != 0) stop("gantryd ended at its start; is it built?");
    try {
      if (ask(api, "GET", "/state-summary").status == 200) return;
    } catch (const std::exception&) {
    }
    if (Clock::now() - start > std::chrono::seconds(20)) stop("gantryd does not answer");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

MesosMaster::~MesosMaster() {
  int ended = 0;
  if (::waitpid(pid_, &ended, WNOHANG) == pid_) {
    std::fprintf(stderr, "gantryd ended before it was asked to, status %d\n", ended);
    return;
  }
  ::kill(pid_, SIGTERM);
  ::waitpid(pid_, nullptr, 0);
}

double MesosMaster::cpu() const {
  const std::string tasks = "/proc/" + std::to_string(pid_) + "/task";
  double ns = 0;
  DIR* d = ::opendir(tasks.c_str());
  while (const dirent* e = d ? ::readdir(d) : nullptr) {
    double one = 0;
    if (e->d_name[0] != '.' && std::ifstream(tasks + "/" + e->d_name + "/schedstat") >> one) ns += one;
  }
  if (d) ::closedir(d);
  return ns / 1e9;
}

double MesosMaster::resident() const {
  std::ifstream in("/proc/" + std::to_string(pid_) + "/status");
  std::string word;
  double kib = 0;
  while (in >> word)
    if (word == "VmRSS:" && in >> kib) return kib * 1024;
  return 0;
}

Answered ask(std::uint16_t port, std::string_view method, std::string_view path, std::string_view headers, std::string_view body,
             std::size_t keep) {
  const int fd = dial(port);
  if (fd < 0) stop("nobody listens");
  std::string request(method);
  request.append(" ").append(path).append(" HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n").append(headers);
  if (method != "GET") request += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  request.append("\r\n").append(body);
  write_all(fd, request);
  Answered a;
  std::string in;
  bool headed = false;
  std::vector<char> buffer(1u << 20);
  for (ssize_t n = 0; (n = ::recv(fd, buffer.data(), buffer.size(), 0)) > 0;) {
    if (headed) {
      a.size += static_cast<std::size_t>(n);
      if (a.body.size() < keep) a.body.append(buffer.data(), static_cast<std::size_t>(n));
      continue;
    }
    in.append(buffer.data(), static_cast<std::size_t>(n));
    const auto split = in.find("\r\n\r\n");
    if (split == std::string::npos) continue;
    headed = true;
    a.head = in.substr(0, split + 2);
    a.body = in.substr(split + 4);
    a.size = a.body.size();
  }
  ::close(fd);
  if (!headed) stop("no whole answer");
  a.status = std::atoi(a.head.c_str() + 9);
  if (const auto at = a.head.find("Content-Length: "); at != std::string::npos && std::strtoull(a.head.c_str() + at + 16, nullptr, 10) != a.size)
    stop("an answer was cut short");
  return a;
}

// ---- the framework

HttpFramework::HttpFramework(std::uint16_t port, Options options) : options_(std::move(options)), port_(port), connections_(options_.connections) {
  const std::string form = options_.protobuf ? "application/x-protobuf" : "application/json";
  const std::string body =
      encoded(R"({"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":")" + options_.name +
              R"(","roles":["bench"],"checkpoint":true,"failover_timeout":)" + std::to_string(options_.failover_timeout) +
              R"(,"capabilities":[{"type":"MULTI_ROLE"},{"type":"RESERVATION_REFINEMENT"},{"type":"PARTITION_AWARE"}]})" + (options_.suppressed ? R"(,"suppressed_roles":["bench"])" : "") + "}}");
  stream_ = dial(port);
  if (stream_ < 0) stop("nobody listens");
  write_all(stream_, "POST /api/v1/scheduler HTTP/1.1\r\nHost: bench\r\nContent-Type: " + form + "\r\nAccept: " + form +
                         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  std::string head;
  while (head.find("\r\n\r\n") == std::string::npos) {
    char c = 0;
    if (::recv(stream_, &c, 1, 0) != 1) stop("the master closed the stream");
    head += c;
  }
  if (!head.starts_with("HTTP/1.1 200")) stop("SUBSCRIBE: " + head);
  const auto at = head.find("Mesos-Stream-Id: ");
  if (at == std::string::npos) stop("no stream id: " + head);
  const std::string stream_id = head.substr(at + 17, head.find('\r', at) - at - 17);
  head_ = "POST /api/v1/scheduler HTTP/1.1\r\nHost: bench\r\nContent-Type: " + form + "\r\nMesos-Stream-Id: " + stream_id + "\r\nContent-Length: ";
  for (auto& c : connections_)
    if ((c.fd = dial(port)) < 0) stop("nobody listens");
  run_until([this] { return !id.empty(); }, 20, "SUBSCRIBED");
}

HttpFramework::~HttpFramework() {
  for (const auto& c : connections_) ::close(c.fd);
  if (stream_ >= 0) ::close(stream_);
}

std::string HttpFramework::encoded(const std::string& json) const {
  if (!options_.protobuf) return json;
  const auto message = Codec::get().from_json(json, "gantry.fb.Call");
  if (!message) stop(message.error().message);
  return Codec::get().to_protobuf(Bytes(*message), "gantry.fb.Call");
}

void HttpFramework::call(std::string_view type, std::string_view members) {
  leaving_ = type == "TEARDOWN";
  std::string json = R"({"type":")" + std::string(type) + R"(","framework_id":{"value":")" + id + "\"}";
  if (!members.empty()) json.append(",").append(members);
  post(encoded(json + "}"));
}

void HttpFramework::accept(const Offered& offer, const std::string& prefix, std::size_t first, std::size_t count,
                           const std::string& resources_json, double refuse_seconds) {
  std::string m = R"("accept":{"offer_ids":[{"value":")" + offer.id + R"("}],"operations":[{"type":"LAUNCH","launch":{"task_infos":[)";
  for (std::size_t i = 0; i < count; ++i) {
    const std::string task = prefix + std::to_string(first + i);
    m += std::string(i ? "," : "") + R"({"name":")" + task + R"(","task_id":{"value":")" + task + R"("},"agent_id":{"value":")" + offer.agent +
         R"("},"command":{"shell":true,"value":"true"},"resources":)" + resources_json + "}";
  }
  call("ACCEPT", m + R"(]}}],"filters":{"refuse_seconds":)" + std::to_string(refuse_seconds) + "}}");
}

void HttpFramework::decline(const Offered& offer, double refuse_seconds) {
  call("DECLINE", R"("decline":{"offer_ids":[{"value":")" + offer.id + R"("}],"filters":{"refuse_seconds":)" + std::to_string(refuse_seconds) + "}}");
}

void HttpFramework::post(std::string body) {
  Connection& c = connections_[next_++ % connections_.size()];
  if (c.open < options_.depth) return put(c, body);
  c.waiting.push_back(std::move(body));
}
void HttpFramework::put(Connection& c, std::string_view body) {
  c.out += head_;
  c.out += std::to_string(body.size());
  c.out += "\r\n\r\n";
  c.out += body;
  ++c.open;
  ++sent;
}

void HttpFramework::flush(Connection& c) {
  std::size_t done = 0;
  while (done < c.out.size()) {
    const auto n = ::send(c.fd, c.out.data() + done, c.out.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (n <= 0) stop("the master closed a connection for calls");
    done += static_cast<std::size_t>(n);
  }
  c.out.erase(0, done);
}

void HttpFramework::read_answers(Connection& c) {
  thread_local std::vector<char> buffer(256u << 10);
  const auto n = ::recv(c.fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0)
    stop("the master closed a connection for calls, " + std::to_string(c.open) + " of which were under way: " + (n < 0 ? std::strerror(errno) : "end"));
  c.in.append(buffer.data(), static_cast<std::size_t>(n));
  std::size_t at = 0;
  for (;;) {
    const auto end = c.in.find("\r\n\r\n", at);
    if (end == std::string::npos) break;
    if (!leaving_ && c.in.compare(at, 12, "HTTP/1.1 202") != 0) stop("a call was answered with " + c.in.substr(at, 600));
    at = end + 4;
    ++answered;
    --c.open;
    if (!c.waiting.empty()) {
      put(c, c.waiting.front());
      c.waiting.pop_front();
    }
  }
  c.in.erase(0, at);
}

void HttpFramework::step(int timeout_ms) {
  std::vector<pollfd> fds;
  fds.push_back({stream_, POLLIN, 0});
  for (auto& c : connections_) {
    flush(c);
    fds.push_back({c.fd, static_cast<short>((c.open ? POLLIN : 0) | (c.out.empty() ? 0 : POLLOUT)), 0});
  }
  const int n = ::poll(fds.data(), fds.size(), timeout_ms);
  if (n <= 0) return;
  if (fds[0].revents) read_stream();
  for (std::size_t i = 0; i < connections_.size(); ++i)
    if (fds[i + 1].revents & (POLLIN | POLLHUP | POLLERR)) read_answers(connections_[i]);
  for (auto& c : connections_) flush(c);
}

void HttpFramework::run_until(const std::function<bool()>& done, double limit, const char* what) {
  const auto start = Clock::now();
  while (!done()) {
    if (seconds(Clock::now() - start) > limit)
      stop(std::string("waited too long for ") + what + ": " + std::to_string(running) + " running, " + std::to_string(finished) + " finished, " +
           std::to_string(failed) + " failed, " + std::to_string(sent) + " calls sent, " + std::to_string(answered) + " answered");
    step(100);
  }
}

void HttpFramework::pause(std::chrono::milliseconds length) {
  const auto end = Clock::now() + length;
  for (auto now = Clock::now(); now < end; now = Clock::now())
    step(static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(end - now).count()));
}

void HttpFramework::ended() {
  if (!leaving_) stop("the master ended the stream");
  ::close(std::exchange(stream_, -1));  // poll passes over it
}

void HttpFramework::read_stream() {
  thread_local std::vector<char> buffer(256u << 10);
  const auto n = ::recv(stream_, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return ended();
  in_.append(buffer.data(), static_cast<std::size_t>(n));
  for (;;) {
    const auto line = in_.find("\r\n", at_);
    if (line == std::string::npos) break;
    const auto size = std::strtoull(in_.c_str() + at_, nullptr, 16);
    if (size == 0) return ended();
    if (in_.size() < line + 2 + size + 2) break;
    const std::string_view chunk(in_.data() + line + 2, size);
    at_ = line + 2 + size + 2;
    on_record(chunk.substr(chunk.find('\n') + 1));
  }
  in_.erase(0, at_);
  at_ = 0;
}

void HttpFramework::on_record(std::string_view record) {
  std::string_view type;
  if (options_.protobuf) {
    std::uint64_t kind = 0;
    std::string_view update;
    Reader(record).each([&](unsigned number, std::uint64_t value, std::string_view bytes) {
      if (number == 1) kind = value;
      if (number == 5) update = bytes;
    });
    if (!update.empty()) return on_update_protobuf(inner(update));
    if (kind != 1 && kind != 2) return;  // SUBSCRIBED, OFFERS
    const auto message = Codec::get().from_protobuf({reinterpret_cast<const std::uint8_t*>(record.data()), record.size()}, "gantry.fb.Event");
    if (!message) stop(message.error().message);
    const auto& e = *flatbuffers::GetRoot<fb::Event>(message->data());
    if (e.subscribed()) id = text(e.subscribed()->framework_id());
    if (!e.offers()) return;
    for (const auto* o : *e.offers()->offers()) {
      Offered offer{std::string(text(o->id())), std::string(text(o->agent_id()))};
      if (on_offer) on_offer(offer);
      else offers.push_back(std::move(offer));
    }
    return;
  }
  type = quoted(record, "\"type\":\"");
  if (type == "UPDATE") {
    return on_update(quoted(record, "\"task_id\":{\"value\":\""), quoted(record, "\"agent_id\":{\"value\":\""), quoted(record, "\"state\":\""),
                     quoted(record, "\"uuid\":\""));
  }
  if (type == "SUBSCRIBED") id = quoted(record, "\"framework_id\":{\"value\":\"");
  if (type == "OFFERS") {
    static constexpr std::string_view begin = "{\"id\":{\"value\":\"";
    for (auto at = record.find(begin); at != std::string_view::npos; at = record.find(begin, at + 1)) {
      Offered offer{std::string(quoted(record, begin, at)), std::string(quoted(record, "\"agent_id\":{\"value\":\"", at))};
      if (on_offer) on_offer(offer);
      else offers.push_back(std::move(offer));
    }
  }
}

void HttpFramework::on_update_protobuf(std::string_view status) {
  std::string_view task, agent, uuid;
  std::uint64_t state = 0;
  Reader(status).each([&](unsigned number, std::uint64_t value, std::string_view bytes) {
    if (number == 1) task = inner(bytes);
    if (number == 2) state = value;
    if (number == 5) agent = inner(bytes);
    if (number == 11) uuid = bytes;
  });
  on_update(task, agent, state == 1 ? "TASK_RUNNING" : state == 2 ? "TASK_FINISHED" : "another", uuid);
}

void HttpFramework::on_update(std::string_view task, std::string_view agent, std::string_view state, std::string_view uuid) {
  if (!uuid.empty() && acknowledge) {
    std::string body;
    if (options_.protobuf) {
      put_field(body, 1, id_message(id));
      body += "\x10\x08";  // type: ACKNOWLEDGE
      std::string a;
      put_field(a, 1, id_message(agent));
      put_field(a, 2, id_message(task));
      put_field(a, 3, uuid);
      put_field(body, 8, a);
    } else {
      body.append(R"({"framework_id":{"value":")").append(id).append(R"("},"type":"ACKNOWLEDGE","acknowledge":{"agent_id":{"value":")");
      body.append(agent).append(R"("},"task_id":{"value":")").append(task).append(R"("},"uuid":")").append(uuid).append("\"}}");
    }
    post(std::move(body));
  }
  if (state == "TASK_RUNNING") ++running;
  else if (state == "TASK_FINISHED") ++finished;
  else if (state != "TASK_STARTING") ++failed;
  if (on_state) on_state(task, state == "TASK_FINISHED");
}

}  // namespace gantry::bench
