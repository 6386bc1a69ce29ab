// CNI configurations, results and complaints of plugins, and our own records: no crash, and what is accepted is sound and reads
// back as the same.
#include "modules/isolator/network/cni_config.hpp"
#include "modules/isolator/network/record.hpp"

#include <algorithm>
#include <cstdlib>

using namespace gantry;
using namespace gantry::isolator_network;

namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

void try_network(std::string_view text) {
  const auto network = parse_network(text);
  if (!network) return;
  must(!network->name.empty() && !network->plugins.empty());
  Wanted wanted;
  wanted.name = network->name;
  wanted.ports = {{31000, 80, false}};
  wanted.rates = {1000, 1};
  wanted.addresses = {"10.0.0.9"};
  wanted.info.name = network->name;
  CniEnd end;
  end.interface = "eth0";
  end.network = network->name;
  end.version = network->version;
  for (std::size_t i = 0; i < network->plugins.size(); ++i) {
    const std::string type = text_of(network->plugins[i], "type");
    must(!type.empty() && type.find('/') == type.npos && type[0] != '.');
    end.inputs.push_back(plugin_input(*network, i, wanted));
    // What a plugin gets is JSON, and is itself a configuration of one plugin.
    const auto again = parse_network(input_text(end.inputs.back(), {}));
    must(again && again->name == network->name && again->version == network->version);
  }
  Record record;
  record.cni.push_back(end);
  const std::string printed = print_record(record);
  const auto back = parse_record(printed);
  must(back && print_record(*back) == printed);
}

void try_result(std::string_view text) {
  const auto result = parse_result(text);
  if (!result) return;
  // It goes into files line by line: nothing may bring a line of its own.
  const std::string resolv = print_resolv_conf(result->dns);
  const std::size_t lines = result->dns.nameservers.size() + !result->dns.search.empty() + !result->dns.options.empty();
  must(static_cast<std::size_t>(std::count(resolv.begin(), resolv.end(), '\n')) == lines);
  const std::string none = hosts_file("name", {}, {}), hosts = hosts_file("name", result->addresses, {});
  const auto count = [](const std::string& s) { return std::count(s.begin(), s.end(), '\n'); };
  must(count(hosts) == count(none) - 1 + static_cast<long>(std::max<std::size_t>(result->addresses.size(), 1)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try_network(text);
  try_result(text);
  (void)plugin_error(text, text);
  if (const auto record = parse_record(text)) {
    const std::string printed = print_record(*record);
    const auto back = parse_record(printed);
    must(back && print_record(*back) == printed);
  }
  return 0;
}
