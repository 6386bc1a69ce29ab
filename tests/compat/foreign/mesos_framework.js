// npm mesos-framework: its own scheduler with five instances of a command that ends and is started again. Prints what it sees, a
// line of JSON each; ends with TEARDOWN on the word "teardown".
//   node mesos_framework.js HOST PORT (in the folder it is installed in)
"use strict";
const [host, port] = process.argv.slice(2);
const { Scheduler, Mesos } = require(process.cwd() + "/node_modules/mesos-framework");
const mesos = Mesos.getMesos();
const say = (event, more) => process.stdout.write(JSON.stringify(Object.assign({ event }, more)) + "\n");

const scheduler = new Scheduler({
  masterUrl: host, port, frameworkName: "npm framework", masterConnectionTimeout: 60,
  logging: { level: "error" },
  restartStates: ["TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR", "TASK_FINISHED"],
  tasks: {
    sleeper: {
      priority: 1, instances: 5,
      commandInfo: new mesos.CommandInfo(null, null, true, "sleep 10;", null, null),
      resources: { cpus: 0.2, mem: 64, ports: 1, disk: 0 }
    }
  }
});
scheduler.on("subscribed", (o) => say("subscribed", o));
scheduler.on("offers", (o) => say("offers", { count: o.offers.length }));
scheduler.on("update", (u) => say("update", { task: u.status.task_id.value, state: u.status.state, agent: u.status.agent_id.value }));
scheduler.on("heartbeat", () => say("heartbeat"));
scheduler.on("error", (e) => say("error", { message: e.message || JSON.stringify(e) }));
scheduler.on("sent_subscribe", () => say("sent_subscribe"));
for (const call of ["accept", "decline", "acknowledge", "teardown"]) scheduler.on("sent_" + call, () => say("sent_" + call));
scheduler.on("ready", () => scheduler.subscribe());
process.stdin.on("data", (d) => {
  if (!d.toString().includes("teardown")) return;
  scheduler.teardown();
  setTimeout(() => process.exit(0), 1000);
});
