// mesos-master, mesos-agent, mesos-slave: the name it is built with says which.
#include "daemon.hpp"

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  return gantry::compat::run_daemon(gantry::compat::Role::GANTRY_COMPAT_ROLE, words, GANTRY_COMPAT_NAME);
}
