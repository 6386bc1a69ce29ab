// @dcos/mesos-client, which is made for browsers: the operator's event stream and single calls. XMLHttpRequest is all it needs of a
// browser; the one here appends to responseText as text arrives, as theirs do. Prints a line of JSON for each event.
//   node dcos_client.js URL (in the folder it is installed in)
"use strict";
const http = require("http");
const { StringDecoder } = require("string_decoder");

global.XMLHttpRequest = class {
  constructor() {
    this.listeners = {};
    this.headers = {};
    this.responseText = "";
    this.status = 0;
    this.statusText = "";
  }
  get response() { return this.responseText; }
  addEventListener(kind, fn) { (this.listeners[kind] = this.listeners[kind] || []).push(fn); }
  removeEventListener() {}
  fire(kind) { (this.listeners[kind] || []).forEach((fn) => fn({ target: this })); }
  open(method, url) { Object.assign(this, { method, url }); }
  setRequestHeader(name, value) { this.headers[name] = value; }
  abort() { if (this.request) this.request.destroy(); }
  send(body) {
    const decoder = new StringDecoder("utf8");
    this.request = http.request(this.url, { method: this.method, headers: this.headers }, (res) => {
      this.status = res.statusCode;
      this.statusText = res.statusMessage;
      res.on("data", (d) => { this.responseText += decoder.write(d); this.fire("progress"); });
      res.on("end", () => this.fire("load"));
    });
    this.request.on("error", () => this.fire("error"));
    this.request.end(body);
  }
};

const { stream, request } = require(process.cwd() + "/node_modules/@dcos/mesos-client");
const say = (event, more) => process.stdout.write(JSON.stringify(Object.assign({ event }, more)) + "\n");
const url = process.argv[2];
stream({ type: "SUBSCRIBE" }, url).subscribe(
  (record) => { const e = JSON.parse(record); say(e.type, { body: e }); }, (e) => say("error", { message: String(e.message), code: e.code }),
  () => say("end"));
process.stdin.on("data", (d) => {
  for (const type of d.toString().trim().split("\n")) {
    if (type === "quit") process.exit(0);
    request({ type }, url).subscribe((text) => say("answer", { type, body: JSON.parse(text) }), (e) => say("refused", { type, code: e.code }));
  }
});
