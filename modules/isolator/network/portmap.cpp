#include "portmap.hpp"
#include "json.hpp"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <nftables/libnftables.h>

#include <mutex>

namespace gantry::isolator_network {
namespace {

// libnftables keeps state of the process (symbol tables, caches); all its users take turns.
std::mutex& turn() {
  static std::mutex m;
  return m;
}

}  // namespace

struct PortMap::Answer {
  bool good = false;
  std::string output, errors;
  [[nodiscard]] bool says(std::string_view part) const { return errors.find(part) != errors.npos; }
  [[nodiscard]] Error error(const std::string& what) const {
    // The first line has the reason, the next ones repeat the command.
    const std::string reason = errors.substr(0, errors.find('\n'));
    const bool rights = says("Operation not permitted");
    return fail(rights ? Code::permission_denied : says("File exists") ? Code::already_exists : Code::unavailable,
                what + ": nftables: " + (reason.empty() ? "no reason given" : reason));
  }
};

PortMap::PortMap(std::string table, std::string bridge, Subnet subnet)
    : table_(std::move(table)), bridge_(std::move(bridge)), subnet_(subnet) {}

PortMap::~PortMap() {
  if (!context_) return;
  const std::lock_guard lock(turn());
  nft_ctx_free(context_);
}

PortMap::Answer PortMap::run(const std::string& commands, bool json) const {
  const std::lock_guard lock(turn());
  if (!context_) {
    context_ = nft_ctx_new(NFT_CTX_DEFAULT);
    if (!context_) return {false, {}, "libnftables cannot start"};
    nft_ctx_buffer_output(context_);
    nft_ctx_buffer_error(context_);
  }
  nft_ctx_output_set_flags(context_, json ? NFT_CTX_OUTPUT_JSON : 0);
  Answer a;
  a.good = nft_run_cmd_from_buffer(context_, commands.c_str()) == 0;
  a.output = nft_ctx_get_output_buffer(context_);
  a.errors = nft_ctx_get_error_buffer(context_);
  return a;
}

std::string PortMap::elements_text(const char* verb, const Target& target, bool with_data) const {
  std::string tcp, udp;
  for (const Mapping& m : target.ports) {
    std::string& into = m.udp ? udp : tcp;
    if (!into.empty()) into += ", ";
    into += std::to_string(m.host);
    if (with_data) into += " : " + to_text(target.address) + " . " + std::to_string(m.container);
  }
  std::string out;
  if (!tcp.empty()) out += std::string(verb) + " element ip " + table_ + " tcp_ports { " + tcp + " }\n";
  if (!udp.empty()) out += std::string(verb) + " element ip " + table_ + " udp_ports { " + udp + " }\n";
  if (target.behind)
    out += std::string(verb) + " element ip " + table_ + " hairpin { " + target.behind->text() + " . " + to_text(target.address) + " }\n";
  return out;
}

std::string PortMap::table_text(const std::vector<Target>& all) const {
  const std::string in = " ip " + table_ + " ";
  const std::string bridge = "\"" + bridge_ + "\"";
  const std::string dnat[] = {"fib daddr type local dnat ip to tcp dport map @tcp_ports\n",
                              "fib daddr type local dnat ip to udp dport map @udp_ports\n"};
  std::string out =
      // Adding first makes the deletion succeed either way: what follows stands alone, whatever was there.
      "add table ip " + table_ + "\n" + "delete table ip " + table_ + "\n" + "add table ip " + table_ + "\n" +
      "add map" + in + "tcp_ports { type inet_service : ipv4_addr . inet_service; }\n" +
      "add map" + in + "udp_ports { type inet_service : ipv4_addr . inet_service; }\n" +
      // Neighbours, and a container they reach through us when they use its mapped port: on networks that are not our bridge.
      "add set" + in + "hairpin { type ipv4_addr . ipv4_addr; flags interval; }\n" +
      // The bridge routes loopback addresses, for 127.0.0.1:port of the machine; nobody on it may use that.
      "add chain" + in + "guard { type filter hook prerouting priority raw; policy accept; }\n" +
      "add rule" + in + "guard iifname " + bridge + " ip daddr 127.0.0.0/8 drop\n" +
      "add chain" + in + "prerouting { type nat hook prerouting priority dstnat; policy accept; }\n" +
      "add rule" + in + "prerouting " + dnat[0] + "add rule" + in + "prerouting " + dnat[1] +
      "add chain" + in + "output { type nat hook output priority -100; policy accept; }\n" +
      "add rule" + in + "output " + dnat[0] + "add rule" + in + "output " + dnat[1] +
      "add chain" + in + "postrouting { type nat hook postrouting priority srcnat; policy accept; }\n" +
      // Replies to these must come back through us: to the machine's loopback, and to containers that use a mapped port.
      "add rule" + in + "postrouting oifname " + bridge + " ct status dnat ip saddr { 127.0.0.0/8, " + subnet_.text() + " } masquerade\n" +
      "add rule" + in + "postrouting ct status dnat ip saddr . ip daddr @hairpin masquerade\n" +
      "add rule" + in + "postrouting ip saddr " + subnet_.text() + " oifname != " + bridge + " masquerade\n";
  for (const Target& t : all) out += elements_text("add", t, true);
  return out;
}

Status PortMap::install(const std::vector<Target>& all) {
  const Answer a = run(table_text(all));
  if (!a.good) return a.error("make the table of mapped ports");
  return ok;
}

Status PortMap::add(const Target& target) {
  if (target.ports.empty()) return ok;
  const Answer a = run(elements_text("add", target, true));
  if (!a.good) return a.error("map ports of the container");
  return ok;
}

Status PortMap::remove(const Target& target) {
  if (target.ports.empty()) return ok;
  // Adding what is there already changes nothing, and adding what is not makes the deletion succeed.
  const Answer a = run(elements_text("add", target, true) + elements_text("delete", target, false));
  if (!a.good && !a.says("No such file or directory")) return a.error("unmap ports of the container");
  return ok;
}

Status PortMap::drop() {
  const Answer a = run("add table ip " + table_ + "\ndelete table ip " + table_ + "\n");
  if (!a.good) return a.error("remove the table of mapped ports");
  return ok;
}

bool PortMap::installed() const { return run("list chain ip " + table_ + " postrouting\n").good; }

Result<std::set<std::pair<Mapping, Ipv4>>> PortMap::list() const {
  std::set<std::pair<Mapping, Ipv4>> out;
  for (const char* map : {"tcp_ports", "udp_ports"}) {
    const Answer a = run("list map ip " + table_ + " " + map + "\n", true);
    if (!a.good) return a.error("list mapped ports");
    GANTRY_TRY(auto part, parse_maps(a.output));
    out.merge(part);
  }
  return out;
}

Result<std::set<std::pair<Mapping, Ipv4>>> parse_maps(std::string_view json) {
  GANTRY_TRY(const Object root, parse_object(json));
  std::set<std::pair<Mapping, Ipv4>> out;
  const Array* all = find_array(root, "nftables");
  if (!all) return fail(Code::data_loss, "nftables lists no objects");
  for (const Json& v : *all) {
    const Object* map = v.is_object() ? find_object(v.get_object(), "map") : nullptr;
    if (!map) continue;
    const bool udp = text_of(*map, "name") == "udp_ports";
    const Array* elements = find_array(*map, "elem");
    for (std::size_t i = 0; elements && i < elements->size(); ++i) {
      const Array* pair = (*elements)[i].if_array();
      const Object* data = pair && pair->size() == 2 ? (*pair)[1].if_object() : nullptr;
      const Array* concat = data ? find_array(*data, "concat") : nullptr;
      if (!concat || concat->size() != 2 || !(*pair)[0].is_int64() || !(*concat)[0].is_string() || !(*concat)[1].is_int64())
        return fail(Code::data_loss, "nftables lists an element of another form");
      const auto address = parse_ipv4(std::string((*concat)[0].get_string()));
      if (!address) return fail(Code::data_loss, "nftables lists an address that is none");
      out.insert({Mapping{static_cast<std::uint16_t>((*pair)[0].get_int64()), static_cast<std::uint16_t>((*concat)[1].get_int64()), udp},
                  *address});
    }
  }
  return out;
}

namespace {

// Which parts of a flow have to match (kernel: net/netfilter/nf_internals.h, the bits of CTA_FILTER_*_FLAGS).
constexpr std::uint32_t match_source = 1u << 0, match_protocol = 1u << 3, match_destination_port = 1u << 5;

struct Flow {
  bool reply = false;            // which direction is looked at
  std::uint32_t match = 0;
  Ipv4 source = 0;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
};

void forget(nl_sock* socket, const Flow& flow) {
  struct Free {
    void operator()(nl_msg* m) const { nlmsg_free(m); }
  };
  const std::unique_ptr<nl_msg, Free> message(
      nlmsg_alloc_simple((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK));
  if (!message) return;
  const nfgenmsg head{AF_INET, NFNETLINK_V0, 0};
  nlmsg_append(message.get(), const_cast<nfgenmsg*>(&head), sizeof head, NLMSG_ALIGNTO);
  nlattr* tuple = nla_nest_start(message.get(), flow.reply ? CTA_TUPLE_REPLY : CTA_TUPLE_ORIG);
  if (!tuple) return;
  if (flow.match & match_source) {
    nlattr* ip = nla_nest_start(message.get(), CTA_TUPLE_IP);
    nla_put_u32(message.get(), CTA_IP_V4_SRC, htonl(flow.source));
    nla_nest_end(message.get(), ip);
  }
  if (flow.match & match_protocol) {
    nlattr* proto = nla_nest_start(message.get(), CTA_TUPLE_PROTO);
    nla_put_u8(message.get(), CTA_PROTO_NUM, flow.protocol);
    nla_put_u16(message.get(), CTA_PROTO_DST_PORT, htons(flow.port));
    nla_nest_end(message.get(), proto);
  }
  nla_nest_end(message.get(), tuple);
  nlattr* filter = nla_nest_start(message.get(), CTA_FILTER);
  nla_put_u32(message.get(), CTA_FILTER_ORIG_FLAGS, flow.reply ? 0 : flow.match);
  nla_put_u32(message.get(), CTA_FILTER_REPLY_FLAGS, flow.reply ? flow.match : 0);
  nla_nest_end(message.get(), filter);
  if (nl_send_auto(socket, message.get()) >= 0) (void)nl_wait_for_ack(socket);
}

}  // namespace

void PortMap::forget_flows(const Target& target) {
  nl_sock* socket = nl_socket_alloc();
  if (socket && nl_connect(socket, NETLINK_NETFILTER) >= 0) {
    forget(socket, {true, match_source, target.address, 0, 0});
    for (const Mapping& m : target.ports)
      if (m.udp) forget(socket, {false, match_protocol | match_destination_port, 0, IPPROTO_UDP, m.host});
  }
  if (socket) nl_socket_free(socket);
}

}  // namespace gantry::isolator_network
