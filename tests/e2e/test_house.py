"""The laws of the house: who may include whom, who may name what."""

import pathlib
import re
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]

# A room includes only rooms on lower floors.
FLOORS = {
    "config": 0,
    "buf": 1, "poller": 1, "ip": 1, "file": 1,
    "log": 2, "crypto": 2, "path": 2, "reply": 2, "dot": 2, "value": 2,
    "foreign": 2, "dns_packet": 2, "advice": 2, "stamp": 2,
    "settings": 3, "queue": 3, "door": 3, "clients": 3, "from": 3,
    "dns_files": 3, "users": 3, "trust": 3,
    "tls": 4, "sasl": 4, "rewrite": 4, "reason": 4, "delivery": 4,
    "dns_leg": 4, "notice": 4,
    "promise": 5, "link": 5, "message": 5, "identity": 5, "envelope": 5, "login": 5,
    "dns": 5,
    "intake": 6, "route": 6,
    "smtp_session": 7, "fate": 7,
    "smtp_verbs": 8, "status": 8, "smtp_courier": 8,
    "smtp_dialogue": 9, "smtp_errand": 9,
    "smtp_in": 10, "smtp_out": 10,
    "relay": 11,
}

# The queue is the front wall: what each side must never know.
STRANGERS = {
    "smtp_in": {"smtp_out", "smtp_courier", "smtp_errand", "fate", "route", "dns"},
    "smtp_session": {"smtp_out", "smtp_courier", "smtp_errand", "fate", "route", "dns"},
    "smtp_verbs": {"smtp_out", "smtp_courier", "smtp_errand", "fate", "route", "dns",
                   "smtp_in"},
    "smtp_dialogue": {"smtp_out", "smtp_courier", "smtp_errand", "fate", "route", "dns"},
    "status": {"smtp_session", "smtp_courier", "users", "sasl"},
    "login": {"link", "queue", "log", "smtp_session"},
    "envelope": {"link", "queue", "log", "message"},
    "rewrite": {"link", "log", "reply", "message"},
    "reason": {"link", "queue", "smtp_session"},
    "advice": {"link", "queue", "log", "settings"},
    "clients": {"link", "log", "queue", "settings"},
    "notice": {"link", "smtp_session", "route"},
    "stamp": {"queue", "settings", "log"},
    "identity": {"link", "queue", "smtp_session"},
    "from": {"settings", "log", "rewrite"},
    "value": {"settings", "log"},
    "foreign": {"link", "log"},
    "intake": {"smtp_out", "smtp_courier", "smtp_errand", "fate", "route", "dns", "link"},
    "delivery": {"link", "route", "fate", "log", "smtp_session"},
    "smtp_out": {"smtp_in", "smtp_session", "intake", "door"},
    "smtp_courier": {"smtp_in", "smtp_session", "intake", "door", "dns"},
    "smtp_errand": {"smtp_in", "smtp_session", "intake", "door", "dns"},
    "promise": {"link", "smtp_session", "route", "fate", "log"},
    "route": {"smtp_courier", "link", "tls"},
    "queue": {"link", "reply", "path", "dot"},
    "trust": {"settings", "queue", "poller"},
    "tls": {"reply", "queue", "poller"},
    "dns": {"settings", "queue"},
    "settings": {"queue", "tls", "dns"},
    "log": {"settings"},
    "dot": {"poller", "log", "message"},
    "path": {"poller", "log", "reply"},
    "reply": {"poller", "log", "path"},
    "message": {"poller", "queue", "log"},
    "sasl": {"poller", "log", "link"},
    "users": {"settings", "poller", "link", "sasl"},
    "crypto": {"tls", "log", "settings"},
}

ALLOCATORS = ("malloc", "calloc", "realloc", "free", "strdup", "strndup",
              "asprintf", "vasprintf", "getline", "alloca", "aligned_alloc",
              "posix_memalign", "mmap")


def sources():
    return sorted(TOP.glob("*.c")) + sorted(TOP.glob("*.h"))


def without_comments(text):
    """Code alone: comments and the insides of strings blanked."""
    pattern = r'/\*.*?\*/|"(?:\\.|[^"\\])*"'

    def blank(match):
        found = match.group(0)
        return '""' if found.startswith('"') else " " + "\n" * found.count("\n")

    return re.sub(pattern, blank, text, flags=re.S)


class House(unittest.TestCase):
    def test_every_room_has_a_floor(self):
        rooms = {path.stem for path in sources()} - {"config_local"}
        self.assertEqual(rooms, set(FLOORS))

    def test_includes_go_down(self):
        for path in sources():
            if path.stem not in FLOORS:
                continue
            for name in re.findall(r'#include "(\w+)\.h"', path.read_text()):
                if name == path.stem or name == "config_local":
                    continue
                self.assertLess(
                    FLOORS[name], FLOORS[path.stem],
                    f"{path.name} includes {name}.h, which is not below it")

    def test_strangers_stay_strangers(self):
        for room, strangers in STRANGERS.items():
            for suffix in (".c", ".h"):
                text = (TOP / (room + suffix)).read_text()
                known = set(re.findall(r'#include "(\w+)\.h"', text))
                self.assertFalse(known & strangers, f"{room} knows too much")

    def test_every_header_is_a_contract(self):
        for path in TOP.glob("*.h"):
            text = path.read_text()
            self.assertTrue(text.startswith(f"/* {path.stem}"), path.name)
            if path.stem not in ("config", "config_local"):
                self.assertIn("Must never know:",
                              " ".join(text.replace("*", " ").split()),
                              path.name)

    def test_nobody_allocates(self):
        for path in sources():
            code = without_comments(path.read_text())
            for name in ALLOCATORS:
                self.assertIsNone(re.search(rf"\b{name}\s*\(", code),
                                  f"{path.name} calls {name}")

    def test_mbedtls_lives_in_three_rooms(self):
        for path in sources():
            if path.name in ("tls.c", "trust.c", "trust.h", "crypto.c"):
                continue
            code = without_comments(path.read_text()).lower()
            self.assertNotIn("mbedtls", code, path.name)

    def test_options_are_zero_or_one(self):
        for path in sources():
            self.assertIsNone(
                re.search(r"#\s*if(n?def)\s+WITH_(?!SETTINGS_FILE\b)",
                          path.read_text()), path.name)
            if path.name != "config.h":
                self.assertNotRegex(path.read_text(), r"#\s*ifn?def\s+WITH_")

    def test_nothing_runs_other_programs(self):
        for path in sources():
            code = without_comments(path.read_text())
            self.assertNotRegex(code, r"\b(system|popen|execl?v?p?e?|fork)\s*\(")

    def test_lines_fit_a_screen(self):
        for path in sources():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                self.assertLessEqual(len(line), 80, f"{path.name}:{number}")

    def test_no_room_is_too_large(self):
        for path in TOP.glob("*.c"):
            lines = len(path.read_text().splitlines())
            self.assertLess(lines, 750, f"{path.name} wants to be two rooms")

    def test_top_level_is_tidy(self):
        allowed = {"Makefile", "README.md", "CONTRIBUTING.md", "LICENSE",
                   "CHANGELOG.md", "config_local.h"}
        for path in TOP.iterdir():
            if path.is_dir() or path.name.startswith("."):
                continue
            self.assertTrue(path.suffix in (".c", ".h") or path.name in allowed,
                            path.name)


if __name__ == "__main__":
    unittest.main()
