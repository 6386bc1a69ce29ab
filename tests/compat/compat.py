"""What the tests of compatibility share: where things are, and a runner that prints GTest's lines, which tools/test counts."""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("GANTRY_BUILD", os.path.join(ROOT, "build")))
ABI = os.path.join(ROOT, "sdk", "abi")
SCHEMA = os.path.join(ROOT, "sdk", "schema")
INCLUDE = os.path.join(ROOT, "sdk", "include")
sys.path.insert(0, ABI)


class _Result(unittest.TestResult):
    def _say(self, word, test):
        print("[%s] %s (0 ms)" % (word, test.id().replace("__main__.", "")), flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._say("       OK ", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        print(self.failures[-1][1])
        self._say("  FAILED  ", test)

    def addError(self, test, err):
        super().addError(test, err)
        print(self.errors[-1][1])
        self._say("  FAILED  ", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            print("in %s:\n%s" % (subtest, (self.failures + self.errors)[-1][1]))
            self._say("  FAILED  ", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print("skipped: " + reason)
        self._say("  SKIPPED ", test)


def main():
    module = sys.modules["__main__"]
    names = sys.argv[1:]
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    result = _Result()
    suite.run(result)
    bad = len(result.failures) + len(result.errors)
    print("%d passed, %d failed, %d skipped" % (result.testsRun - bad - len(result.skipped), bad, len(result.skipped)))
    sys.exit(1 if bad else 0)
