// gantry: reads the command line; the work is in *_commands.cpp. CLI11 is compiled here only.
#include "tools/gantry/cli.hpp"

#include "kernel/config/suggest.hpp"

#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>

#include <unistd.h>

namespace {

using namespace gantry::cli;

std::atomic<bool> interrupted{false};

constexpr const char* footer = R"(
Where things are:
  gantryd    --address, else GANTRY_ADDRESS, else /run/gantry/gantry.sock, /var/lib/gantry/gantry.sock, 127.0.0.1:5060
  services   --services, else GANTRY_SERVICES, else http://127.0.0.1:8080

Exit codes:
  0  done                     3  gantryd or the services API cannot be reached
  1  the operation failed     4  what was named does not exist
  2  wrong usage              5  not allowed, or credentials are missing

Examples:
  gantry status
  gantry app deploy web.json && gantry app show web
  gantry app scale web 5
  gantry task log -f web.1f2e
  gantry task exec -it web.1f2e -- sh
  gantry module trace isolator.cgroups --slower 5ms
  gantry config check /etc/gantry/gantry.toml)";

// "there is no command ...", where the trouble is a word that is none. CLI11 only says that something is missing.
std::string unknown_command(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with('-')) {
      const CLI::Option* option = word.find('=') == std::string::npos ? app.get_option_no_throw(word) : nullptr;
      if (option && option->get_expected_min() > 0) ++i;
      continue;
    }
    std::vector<std::string> names;
    const CLI::App* next = nullptr;
    for (const CLI::App* sub : at->get_subcommands(nullptr)) {
      names.push_back(sub->get_name());
      if (sub->get_name() == word) next = sub;
    }
    if (names.empty()) return {};
    if (!next) {
      const std::string parent = at == &app ? "" : at->get_name() + " ";
      const std::string hint = gantry::config::did_you_mean(word, names);
      return "there is no command \"" + parent + word + "\"" +
             (hint.empty() ? "; there are " + gantry::config::one_of(names) : hint);
    }
    at = next;
  }
  return {};
}

std::string environment(const char* name) {
  const char* v = std::getenv(name);
  return v ? v : "";
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, [](int) {
    // The second one is meant.
    if (interrupted.exchange(true)) ::_exit(exit_interrupted);
  });
  std::signal(SIGPIPE, SIG_IGN);

  Context c{&std::cout, &std::cerr};
  c.interrupted = &interrupted;
  c.address = environment("GANTRY_ADDRESS");
  c.services = environment("GANTRY_SERVICES");
  c.principal = environment("GANTRY_PRINCIPAL");
  std::string secret_file = environment("GANTRY_SECRET_FILE");
  std::string color = "auto";

  CLI::App app{"gantry: look at and change a Gantry cluster", "gantry"};
  app.footer(footer);
  app.require_subcommand(1);
  app.fallthrough();
  app.option_defaults()->always_capture_default(false);
  app.add_option("-a,--address", c.address, "gantryd: host:port or the path of its socket")->type_name("ADDRESS");
  app.add_option("--services", c.services, "URL of the services API (app commands)")->type_name("URL");
  app.add_option("--principal", c.principal, "Name to authenticate with (GANTRY_PRINCIPAL)")->type_name("NAME");
  app.add_option("--secret-file", secret_file, "File whose first line is the secret (GANTRY_SECRET_FILE)")
      ->type_name("FILE");
  app.add_flag("--json", c.json, "Print JSON, for programs");
  app.add_option("--color", color, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  app.set_version_flag("-V,--version", "gantry " GANTRY_VERSION);

  std::function<int()> run;
  const auto command = [&](CLI::App& parent, const char* name, const char* help, std::function<int()> fn) {
    CLI::App* sub = parent.add_subcommand(name, help);
    sub->fallthrough();
    sub->footer("\nOptions of gantry itself (--address, --json, ...) work here too; see gantry --help.");
    sub->callback([&run, fn = std::move(fn)] { run = fn; });
    return sub;
  };
  const auto group = [&](const char* name, const char* help) {
    CLI::App* sub = app.add_subcommand(name, help);
    sub->fallthrough();
    sub->footer("\ngantry " + std::string(name) + " COMMAND --help explains each.");
    sub->require_subcommand(1);
    return sub;
  };

  command(app, "status", "What the daemon is and how it fares", [&] { return status(c); });
  command(app, "agents", "The machines of the cluster: what they have and what is used", [&] { return agents(c); });
  command(app, "frameworks", "The frameworks that receive offers", [&] { return frameworks(c); });
  std::string framework_id;
  CLI::App* why = group("why", "Explain what the cluster does");
  command(*why, "framework", "Why a framework gets the offers it gets, or none: filters, constraints, agents",
          [&] { return why_framework(c, framework_id); })
      ->add_option("FRAMEWORK", framework_id, "Its id, as gantry frameworks shows it")
      ->required();

  DeployOptions deploy;
  bool no_wait = false;
  std::string file, id;
  unsigned instances = 0;
  const auto changing = [&](CLI::App* sub) {
    sub->add_flag("--no-wait", no_wait, "Do not wait until the deployment has ended");
    sub->add_flag("--force", deploy.force, "Replace a deployment that is under way");
    return sub;
  };
  const auto options = [&] {
    deploy.wait = !no_wait;
    return deploy;
  };
  CLI::App* apps = group("app", "Applications: deploy, look, change, remove");
  changing(command(*apps, "deploy",
                   "Create or update applications from a JSON file (Marathon's format); - is standard input",
                   [&] { return app_deploy(c, file, options()); }))
      ->add_option("FILE", file, "One application, or a list of them")
      ->required();
  command(*apps, "list", "All applications", [&] { return app_list(c); });
  command(*apps, "show", "One application and its instances", [&] { return app_show(c, id); })
      ->add_option("ID", id, "For example web or /team/web")
      ->required();
  CLI::App* scaling = changing(command(*apps, "scale", "Change the number of instances",
                                       [&] { return app_scale(c, id, instances, options()); }));
  scaling->add_option("ID", id, "The application")->required();
  scaling->add_option("N", instances, "How many instances; 0 suspends it")
      ->required()
      ->check(CLI::Range(0u, 1'000'000u));
  changing(command(*apps, "restart", "Replace all instances, as gently as an update",
                   [&] { return app_restart(c, id, options()); }))
      ->add_option("ID", id, "The application")
      ->required();
  changing(command(*apps, "remove", "Stop all instances and forget the application",
                   [&] { return app_remove(c, id, options()); }))
      ->add_option("ID", id, "The application")
      ->required();

  bool all = false;
  LogOptions log;
  CLI::App* tasks = group("task", "Tasks: list, read their output, execute beside them, kill");
  command(*tasks, "list", "Running tasks", [&] {
    return task_list(c, all);
  })->add_flag("--all", all, "Finished ones too");
  CLI::App* logging = command(*tasks, "log", "What a task has written", [&] { return task_log(c, log); });
  logging->add_option("TASK", log.task, "Its id, or the beginning of it")->required();
  logging->add_flag("-f,--follow", log.follow, "Go on as it writes, until the task has ended");
  logging->add_flag("--stderr", log.standard_error, "Its standard error instead of its standard output");
  logging->add_option("-n,--lines", log.lines, "Only the last lines")
      ->type_name("N")
      ->check(CLI::Range(1u, 1'000'000u));
  command(*tasks, "kill", "End a task; its framework may start another", [&] { return task_kill(c, log.task); })
      ->add_option("TASK", log.task, "Its id, or the beginning of it")
      ->required();

  ExecOptions exec;
  CLI::App* executing = command(*tasks, "exec", "Run a command beside a task, in its container; the exit code is the command's", [&] { return task_exec(c, exec); });
  executing->add_option("TASK", exec.task, "Its id, or the beginning of it")->required();
  executing->add_option("COMMAND", exec.command, "The program and its arguments; write -- before it if they begin with a dash")->required();
  executing->add_flag("-i,--interactive", exec.input, "Pass our standard input on to it");
  executing->add_flag("-t,--tty", exec.terminal, "Give it a terminal");
  bool once = false;
  CLI::App* stats = command(*tasks, "stats", "What tasks use, live: cpu, memory, network, disk", [&] { return task_stats(c, log.task, once); });
  stats->add_option("TASK", log.task, "Only this one: its id, or the beginning of it");
  stats->add_flag("--once", once, "Look once (twice, a second apart) and end");

  CLI::App* image = group("image", "Images on the agents");
  std::string image_name;
  std::vector<std::string> exclude;
  command(*image, "list", "Images, who uses them and when they were used last", [&] { return image_list(c); });
  command(*image, "pull", "Bring an image to every agent before a task needs it", [&] { return image_pull(c, image_name); })
      ->add_option("IMAGE", image_name, "As in an application: alpine, registry.example:5000/team/app:1.2, app@sha256:...")
      ->required();
  command(*image, "prune", "Remove images that no container uses", [&] { return image_prune(c, exclude); })
      ->add_option("--exclude", exclude, "Images that stay; may be given several times")
      ->type_name("IMAGE");

  CLI::App* module = group("module", "Modules of the daemon");
  command(*module, "list", "Modules: where they run, their state and why, counters", [&] { return modules(c); });
  std::string module_id;
  unsigned log_lines = 20;
  const auto named = [&](CLI::App* sub, std::string& id_of) {
    sub->add_option("KIND.NAME", id_of, "For example isolator.cgroups")->required();
    return sub;
  };
  named(command(*module, "show", "One module: settings, counters, metrics, last log lines",
                [&] { return module_show(c, module_id, log_lines); }),
        module_id)
      ->add_option("-n,--lines", log_lines, "Log lines shown (20; at most 50)")
      ->type_name("N")
      ->check(CLI::Range(0u, 50u));
  TraceOptions trace;
  CLI::App* tracing = named(command(*module, "trace", "Show a module's calls and its own requests as they happen",
                                    [&] { return module_trace(c, trace); }),
                            trace.module);
  tracing->add_option("--for", trace.duration, "End after this time, for example 10s; else Ctrl-C does")
      ->type_name("DURATION");
  tracing->add_option("--method", trace.methods, "Only this method, for example PREPARE or store.COMMIT; repeatable")
      ->type_name("NAME")
      ->allow_extra_args(false);
  tracing->add_flag("--errors", trace.errors, "Only what went wrong");
  tracing->add_option("--slower", trace.slower, "Only what took at least this long, for example 5ms")
      ->type_name("DURATION");
  tracing->add_flag("--all", trace.all, "The beginnings and cancels of calls too, not only answers");
  tracing->add_flag("--summary", trace.summary, "No rows: at the end count, errors and latencies of each method");
  tracing->add_option("--every", trace.every, "The same every so often")->type_name("DURATION");
  RecordOptions record;
  CLI::App* recording =
      named(command(*module, "record", "Write a module's calls with their bodies, for gantry-module check --replay",
                    [&] { return module_record(c, record); }),
            record.module);
  recording->add_option("-o,--out", record.file, "The file; it is readable by its owner only")
      ->required()
      ->type_name("FILE");
  recording->add_option("--for", record.duration, "End after this time, for example 10s; else Ctrl-C does")
      ->type_name("DURATION");
  recording->add_option("--max", record.max, "End when the file has this size (1GiB)")->type_name("SIZE");
  recording->add_option("--max-body", record.max_body, "Leave out larger bodies (1MiB; at most 4MiB)")->type_name("SIZE");
  recording->add_flag("--with-secrets", record.secrets, "Record credentials and secret settings too");

  ConfigOptions config;
  std::string fields = "kernel";
  CLI::App* configuration = group("config", "Configuration: check it, show it, explain settings");
  const auto reading = [&](CLI::App* sub) {
    sub->add_option("--set", config.set, "KEY=VALUE on top of the files, for example kernel.log_level=debug")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);
    sub->add_option("--module-dir", config.module_dirs, "Where modules are sought")
        ->type_name("DIR")
        ->allow_extra_args(false);
    return sub;
  };
  reading(command(*configuration, "check",
                  "Find every mistake in a configuration, without a daemon and without running modules",
                  [&] { return config_check(c, config); }))
      ->add_option("FILE", config.file,
                   "The main file; conf.d/*.toml beside it is read too (default /etc/gantry/gantry.toml)");
  reading(command(*configuration, "show", "The whole configuration with defaults: the daemon's own, or that of FILE",
                  [&] { return config_show(c, config); }))
      ->add_option("FILE", config.file, "The main file");
  reading(command(*configuration, "fields", "What can be set in a module's table, or below [kernel]",
                  [&] { return config_fields(c, fields, config); }))
      ->add_option(
          "TABLE", fields,
          "KIND.NAME, for example isolator.cgroups; or kernel (the default); or the path of a .so or module.toml");

  std::string mesos_role = "master";
  // What stands behind "--" is another program's; CLI11 would take it for words of this one.
  std::vector<std::string> from_mesos_flags;
  bool mesos = false;
  for (int i = 1; i < argc; ++i) {
    mesos = mesos || std::string_view(argv[i]) == "from-mesos";
    if (!mesos || std::string_view(argv[i]) != "--") continue;
    from_mesos_flags.assign(argv + i + 1, argv + argc);
    argc = i;
  }
  CLI::App* from_mesos = command(*configuration, "from-mesos",
                                 "Print the configuration for flags of mesos-master or mesos-agent, which stand behind --",
                                 [&] { return config_from_mesos(c, mesos_role, from_mesos_flags); });
  from_mesos->add_option("ROLE", mesos_role, "master (the default) or agent")->check(CLI::IsMember({"master", "agent"}));
  from_mesos->footer("\nExample:\n  gantry config from-mesos agent -- --master=10.0.0.1:5050 --work_dir=/var/lib/mesos");

  command(app, "version", "The version of this program", [&] { return version(c); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (const std::string message = e.get_exit_code() ? unknown_command(app, argc, argv) : ""; !message.empty()) {
      std::cerr << "gantry: " << message << "\n";
      return exit_usage;
    }
    const int rc = app.exit(e, std::cout, std::cerr);
    return rc == 0 ? exit_ok : exit_usage;
  }
  c.terminal = color == "always" ||
               (color == "auto" && ::isatty(1) && environment("NO_COLOR").empty() && environment("TERM") != "dumb");
  if (!secret_file.empty()) {
    std::ifstream in(secret_file);
    if (!std::getline(in, c.secret))
      return report(c, gantry::fail(gantry::Code::invalid_argument, "cannot read a secret from " + secret_file));
  }
  const int rc = run ? run() : int{exit_usage};
  std::cout.flush();
  return rc;
}
