"""Images for tests, made of this machine's own programs, and a real registry that serves them.

Registry starts docker-registry on loopback; `push` makes an image with umoci and copies it there with skopeo. Everything lies below
the directory given and ends with close(). available() says what is missing.
"""

import os
import shutil
import socket
import subprocess
import time
import urllib.request

TOOLS = ("docker-registry", "skopeo", "umoci")
BASE = ("sh", "cat", "ls", "id", "env", "sleep", "touch", "mkdir", "grep", "echo", "pwd", "uname", "rm", "stat", "head", "dd", "ln", "mknod", "mount",
        "kill", "ps", "sync", "test", "readlink", "hostname")


def available():
    """What is missing to make and serve images; empty: nothing."""
    return [t for t in TOOLS if not shutil.which(t)]


def run(*command, **options):
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, **options)
    if r.returncode:
        raise AssertionError("%s: %s" % (" ".join(command), r.stdout.decode("utf-8", "replace")))
    return r.stdout.decode()


def copy_file(path, root):
    """A file of the machine, with the links that lead to it."""
    target = root + path
    if os.path.lexists(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy2(os.path.realpath(path), target)


def libraries(program):
    out = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    for line in out.splitlines():
        words = line.split()
        path = words[2] if "=>" in words and len(words) > 2 else words[0] if words else ""
        if path.startswith("/"):
            yield path


def make_root(root, programs=BASE):
    """A small file system with these programs of the machine and what they are linked with."""
    for d in ("bin", "etc", "tmp", "root", "var", "usr/bin", "usr/sbin", "run"):
        os.makedirs(os.path.join(root, d), exist_ok=True)
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    for p in programs:
        path = shutil.which(p, path="/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        if not path:
            raise AssertionError("there is no program " + p)
        real = os.path.realpath(path)
        target = os.path.join(root, "bin", p)
        if not os.path.lexists(target):
            shutil.copy2(real, target)
        for library in libraries(real):
            copy_file(library, root)
    with open(root + "/etc/passwd", "w") as f:
        f.write("root:x:0:0:root:/root:/bin/sh\nweb:x:1234:2345:web:/var/web:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    with open(root + "/etc/group", "w") as f:
        f.write("root:x:0:\nweb:x:2345:\nstaff:x:50:web\n")
    return root


class Registry:
    def __init__(self, directory):
        self.dir = os.path.join(directory, "registry")
        os.makedirs(self.dir)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.host = "127.0.0.1:%d" % self.port
        config = os.path.join(self.dir, "config.yml")
        with open(config, "w") as f:
            f.write("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}\nhttp: {addr: %s}\n" % (self.dir, self.host))
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                urllib.request.urlopen("http://%s/v2/" % self.host, timeout=2).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the registry does not answer")

    def push(self, name, root, *config, layers=()):
        """An image of this root, with further roots as layers above it; config as umoci takes it. Returns its name."""
        layout = os.path.join(self.dir, "layouts", name)
        os.makedirs(os.path.dirname(layout), exist_ok=True)
        run("umoci", "init", "--layout", layout)
        run("umoci", "new", "--image", layout + ":1")
        for layer in (root,) + tuple(layers):
            run("umoci", "insert", "--image", layout + ":1", layer, "/")
        if config:
            run("umoci", "config", "--image", layout + ":1", *config)
        run("skopeo", "copy", "--dest-tls-verify=false", "oci:" + layout + ":1", "docker://%s/%s:1" % (self.host, name))
        return "%s/%s:1" % (self.host, name)

    def close(self):
        self.process.kill()
        self.process.wait()
