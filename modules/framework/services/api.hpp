// The Marathon v2 API over the core: requests in, replies out, no sockets. marathon.md B.
#pragma once
#include "view.hpp"

namespace gantry::framework_services {

struct ApiRequest {
  std::string method, path, peer;                          // path: decoded, without query and trailing slash
  std::vector<std::pair<std::string, std::string>> query;  // decoded, in order
  std::map<std::string, std::string> headers;              // lower-case names
  std::string body;

  [[nodiscard]] std::string header(const std::string& name) const {
    const auto it = headers.find(name);
    return it == headers.end() ? std::string() : it->second;
  }
  [[nodiscard]] std::vector<std::string> all(std::string_view key) const {
    std::vector<std::string> out;
    for (const auto& [k, v] : query) {
      if (k == key) out.push_back(v);
    }
    return out;
  }
  [[nodiscard]] std::string one(std::string_view key) const {
    for (const auto& [k, v] : query) {
      if (k == key) return v;
    }
    return {};
  }
  [[nodiscard]] bool has(std::string_view key) const {
    for (const auto& [k, v] : query) {
      if (k == key) return true;
    }
    return false;
  }
  // "true" and Python's "True" alike; a bare key is true.
  [[nodiscard]] bool flag(std::string_view key, bool otherwise) const {
    if (!has(key)) return otherwise;
    const std::string v = one(key);
    return v.empty() || v == "true" || v == "True" || v == "TRUE" || v == "1";
  }
};

struct ApiReply {
  int status = 200;
  std::string body, type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  bool durable = false;  // leaves only after the records of this step are stored
};

// Splits a request target; malformed escapes stay as they are.
void parse_target(std::string_view target, ApiRequest& out);

struct ApiInfo {
  std::string name, version, leader, hostname;
  int http_port = 8080;
  bool elected = true;
  Object config;
};

ApiReply json_reply(int status, const Json& body);
ApiReply message_reply(int status, std::string_view message);
ApiReply refusal_reply(const Refusal& refusal);

class Api {
 public:
  Api(Core& core, const ApiInfo& info) : core_(core), info_(info) {}
  ApiReply handle(const ApiRequest& request);

 private:
  ApiReply apps(const ApiRequest& r);
  ApiReply app(const ApiRequest& r, const std::string& path);
  ApiReply app_tasks(const ApiRequest& r, const std::string& id);
  ApiReply app_task(const ApiRequest& r, const std::string& id, const std::string& task);
  ApiReply versions(const ApiRequest& r, const std::string& id, const std::string& version);
  ApiReply tasks(const ApiRequest& r);
  ApiReply delete_tasks(const ApiRequest& r);
  ApiReply deployments(const ApiRequest& r, const std::string& id);
  ApiReply queue(const ApiRequest& r, const std::string& rest);
  ApiReply groups(const ApiRequest& r, const std::string& path);
  ApiReply pods(const ApiRequest& r, const std::string& rest);
  ApiReply info(const ApiRequest& r);
  ApiReply metrics(const ApiRequest& r);

  ApiReply accepted(const Outcome<Accepted>& outcome, int status = 200);
  void post_event(const ApiRequest& r, const Json& app);
  Object group_json(const std::string& id, const ApiRequest& r, bool root);

  Core& core_;
  const ApiInfo& info_;
};

// Label selectors: "k", "k==v", "k!=v", "k in (a,b)", "k notin (a,b)", joined by commas.
struct Selector {
  struct Term {
    enum class Op { exists, in, not_in } op;
    std::string key;
    std::vector<std::string> values;
  };
  std::vector<Term> terms;
  // A term on a label the application lacks never matches, not even "!=".
  [[nodiscard]] bool matches(const App& app) const;
};
Result<Selector> parse_selector(std::string_view text);

}  // namespace gantry::framework_services
