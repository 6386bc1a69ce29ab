// The conversation of mesos-execute with a master, over libcurl.
#include "execute.hpp"

#include <boost/json.hpp>
#include <curl/curl.h>

#include <chrono>
#include <cstdio>
#include <deque>
#include <memory>
#include <thread>

namespace gantry::compat {
namespace {

using Clock = std::chrono::steady_clock;

struct Curl {
  CURL* h = curl_easy_init();
  curl_slist* headers = nullptr;
  ~Curl() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(h);
  }
  void header(const std::string& line) { headers = curl_slist_append(headers, line.c_str()); }
};

class Client {
 public:
  Client(std::string master, Job job) : master_(std::move(master)), principal_(job.principal), secret_(job.secret), kill_after_(job.kill_after), scheduler_(std::move(job)) {
    scheduler_.print = [](const std::string& line) {
      std::printf("%s\n", line.c_str());
      std::fflush(stdout);
    };
  }

  int run() {
    while (!scheduler_.done()) {
      if (!stream()) return 1;
      if (scheduler_.done()) break;
      std::this_thread::sleep_for(std::chrono::seconds(1));  // disconnected: again, with the id it has by now
    }
    if (scheduler_.error().empty()) return 0;
    std::fprintf(stderr, "%s\n", scheduler_.error().c_str());
    return 1;
  }

 private:
  void prepare(Curl& c, const std::string& body) {
    c.header("Content-Type: application/json");
    c.header("Accept: application/json");
    c.header("Expect:");
    curl_easy_setopt(c.h, CURLOPT_URL, ("http://" + master_ + "/api/v1/scheduler").c_str());
    curl_easy_setopt(c.h, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(c.h, CURLOPT_COPYPOSTFIELDS, body.c_str());
    curl_easy_setopt(c.h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c.h, CURLOPT_CONNECTTIMEOUT, 10L);
    if (!principal_.empty() && !secret_.empty()) {
      curl_easy_setopt(c.h, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
      curl_easy_setopt(c.h, CURLOPT_USERNAME, principal_.c_str());
      curl_easy_setopt(c.h, CURLOPT_PASSWORD, secret_.c_str());
    }
  }

  // One subscription, to its end. False: there is no point in trying again.
  bool stream() {
    Curl c;
    prepare(c, json::serialize(scheduler_.subscribe()));
    records_ = Records();
    stream_id_.clear();
    refusal_.clear();
    broken_ = false;
    curl_easy_setopt(c.h, CURLOPT_HTTPHEADER, c.headers);
    curl_easy_setopt(c.h, CURLOPT_WRITEFUNCTION, +[](char* data, std::size_t size, std::size_t n, void* self) {
      return static_cast<Client*>(self)->on_data({data, size * n}) ? size * n : 0;
    });
    curl_easy_setopt(c.h, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(c.h, CURLOPT_HEADERFUNCTION, +[](char* data, std::size_t size, std::size_t n, void* self) {
      static_cast<Client*>(self)->on_header({data, size * n});
      return size * n;
    });
    curl_easy_setopt(c.h, CURLOPT_HEADERDATA, this);
    status_ = 0;
    location_.clear();
    const std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)> multi(curl_multi_init(), &curl_multi_cleanup);
    curl_multi_add_handle(multi.get(), c.h);
    int running = 1;
    auto heard = Clock::now();
    bytes_ = false;
    while (running && !scheduler_.done() && !broken_) {
      curl_multi_perform(multi.get(), &running);
      drain();
      if (std::exchange(bytes_, false)) heard = Clock::now();
      if (stream_id_.size() && Clock::now() - heard > std::chrono::seconds(75)) break;  // five heartbeats are missing
      if (scheduler_.kill_armed() && !kill_at_) kill_at_ = Clock::now() + std::chrono::nanoseconds(*kill_after_);
      if (kill_at_ && Clock::now() >= *kill_at_) {
        kill_at_.reset();
        send(scheduler_.kill());
      }
      int wait = 1000;
      if (kill_at_) wait = static_cast<int>(std::min<std::int64_t>(wait, std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(*kill_at_ - Clock::now()).count() + 1)));
      if (running) curl_multi_poll(multi.get(), nullptr, 0, wait, nullptr);
    }
    curl_multi_remove_handle(multi.get(), c.h);
    if (status_ == 307 && !location_.empty()) {
      // "//host:port/master/api/v1/scheduler"
      std::string to = location_;
      if (const auto at = to.find("//"); at != std::string::npos) to = to.substr(at + 2);
      master_ = to.substr(0, to.find('/'));
      return true;
    }
    if (status_ == 0 || status_ == 200 || status_ == 503) return true;
    std::fprintf(stderr, "The master refused the subscription: %ld %s\n", status_, refusal_.c_str());
    return false;
  }

  void on_header(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
    if (line.starts_with("HTTP/")) {
      const auto space = line.find(' ');
      status_ = space == std::string_view::npos ? 0 : std::atol(std::string(line.substr(space + 1)).c_str());
      return;
    }
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return;
    std::string name(line.substr(0, colon));
    for (char& c : name)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    if (name == "mesos-stream-id") stream_id_ = value;
    if (name == "location") location_ = value;
  }

  bool on_data(std::string_view data) {
    bytes_ = true;
    if (status_ != 200) {
      if (refusal_.size() < 4096) refusal_ += data;
      return true;
    }
    const Status s = records_.feed(data, [this](std::string_view r) { events_.emplace_back(r); });
    broken_ = broken_ || !s;
    return true;
  }

  // Outside of libcurl's callbacks, where calls may be made.
  void drain() {
    while (!events_.empty() && !scheduler_.done()) {
      const std::string record = std::move(events_.front());
      events_.pop_front();
      json::error_code ec;
      const json::value event = json::parse(record, ec);
      if (ec || !event.is_object()) continue;
      send(scheduler_.on_event(event.get_object()));
    }
    events_.clear();
  }

  void send(const std::vector<json::object>& calls) {
    for (const auto& call : calls) {
      Curl c;
      prepare(c, json::serialize(call));
      c.header("Mesos-Stream-Id: " + stream_id_);
      std::string answer;
      curl_easy_setopt(c.h, CURLOPT_HTTPHEADER, c.headers);
      curl_easy_setopt(c.h, CURLOPT_TIMEOUT, 30L);
      curl_easy_setopt(c.h, CURLOPT_WRITEFUNCTION, +[](char* data, std::size_t size, std::size_t n, void* out) {
        auto& text = *static_cast<std::string*>(out);
        if (text.size() < 4096) text.append(data, size * n);
        return size * n;
      });
      curl_easy_setopt(c.h, CURLOPT_WRITEDATA, &answer);
      const CURLcode rc = curl_easy_perform(c.h);
      long status = 0;
      curl_easy_getinfo(c.h, CURLINFO_RESPONSE_CODE, &status);
      if (rc != CURLE_OK) std::fprintf(stderr, "A call could not be made: %s\n", curl_easy_strerror(rc));
      else if (status != 202 && status != 200) std::fprintf(stderr, "The master refused a call: %ld %s\n", status, answer.c_str());
    }
  }

  std::string master_, principal_, secret_;
  std::optional<std::int64_t> kill_after_;
  Scheduler scheduler_;
  Records records_;
  std::deque<std::string> events_;
  std::string stream_id_, location_, refusal_;
  long status_ = 0;
  bool broken_ = false, bytes_ = false;
  std::optional<Clock::time_point> kill_at_;
};

}  // namespace

int run_execute(const std::string& master, Job job) {
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return 1;
  return Client(master, std::move(job)).run();
}

}  // namespace gantry::compat
