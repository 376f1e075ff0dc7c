"""`docs/deploy-vm.md`, command by command, on a copy of this machine's system; then from outside.

There is no systemd: `systemctl.py` starts what the units say. What it cannot show is said on the page.
"""

import os
import re
import shutil

import pytest

from geo_assets_tests.pages import blocks
from geo_assets_tests.vm.machine import Machine

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="a copy of the system needs root"),
    pytest.mark.skipif(not shutil.which("apt-get"), reason="the page is for Debian"),
]

PAGE = "docs/deploy-vm.md"

#: What Debian's packages do at once on a machine that has booted.
BOOTED = "systemctl start postgresql@15-main\nsystemctl start nginx\n"

#: 127.0.0.1 and ::1, as the kernel writes them, and the first as IPv6.
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}

#: The address on the page, and a webhook of the test that keeps what is posted.
SECRET = "https://hooks.example.org/services/SECRET"
HOOK = "http://127.0.0.1:9099/services/SECRET"
WEBHOOK = """
cat > /root/webhook.py <<'END'
from http.server import BaseHTTPRequestHandler, HTTPServer

class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        open("/root/posted", "a").write(body.replace("\\n", " ") + "\\n")
        self.send_response(204)
        self.end_headers()

HTTPServer(("127.0.0.1", 9099), Hook).serve_forever()
END
python3 /root/webhook.py 2>/dev/null &
"""

#: A delivery that is bad, and whether somebody heard of it.
BAD = """
install -d -o geo_assets /var/lib/geo_assets/bad && echo 'II*' > /var/lib/geo_assets/bad/broken.tif
geo-assets upload /var/lib/geo_assets/bad default/bad
geo-assets submit ingest_container --param container=bad --wait || true
for second in $(seq 60); do grep -q bad_files /root/posted && break; sleep 1; done
tell heard_samples "$(grep -c sample /root/posted)"
tell heard_of_bad_files "$(grep -c bad_files /root/posted)"
"""

#: Whether each server answers; a service needs some seconds.
WAIT = """
for port in 3000 8000 8080 4266; do
  for second in $(seq 120); do (echo > /dev/tcp/127.0.0.1/$port) 2>/dev/null && break; sleep 1; done
done
"""

STARTS = re.compile("systemctl (enable --now|start) geo-assets-code-server")

ASK = """
echo
ask() { curl --silent --output /tmp/answer --write-out '%{http_code}' --cacert /etc/geo_assets/tls/certificate.pem \
  --resolve "$NAME:443:127.0.0.1" --resolve "dagster.$NAME:443:127.0.0.1" --resolve "other.org:443:127.0.0.1" "$@" || true; }
token="Authorization: Bearer $(cat /root/geo_assets.token)"
tell() { echo "TOLD $1 $2"; }
tell without_a_token "$(ask "https://$NAME/api/jobs")"
tell with_a_token "$(ask --header "$token" "https://$NAME/api/jobs")"
tell with_another "$(ask --header 'Authorization: Bearer ga_x' "https://$NAME/api/jobs")"
tell the_page "$(ask "https://$NAME/")"
tell the_catalogue "$(ask --header "$token" "https://$NAME/stac/collections")"
grep -o 'https://[a-z.]*' /tmp/answer | sort -u | sed 's/^/HREF /'
tell metrics "$(ask --header "$token" "https://$NAME/metrics")"
tell dagster_without_a_login "$(ask "https://dagster.$NAME/")"
tell dagster_with_a_login "$(ask --user "ann:$(cat /root/dagster.password)" "https://dagster.$NAME/server_info")"
tell dagster_from_another_page "$(ask --user "ann:$(cat /root/dagster.password)" --header 'Origin: https://evil.example' \
  --json '{"query": "{ version }"}' "https://dagster.$NAME/graphql")"
tell dagster_from_its_own_page "$(ask --user "ann:$(cat /root/dagster.password)" --header "Origin: https://dagster.$NAME" \
  --json '{"query": "{ version }"}' "https://dagster.$NAME/graphql")"
tell another_name "$(ask --insecure "https://other.org/")"
tell submitted "$(ask --header "$token" --json '{"n": 3}' "https://$NAME/api/jobs/submit/hello_world")"
job=$(sed 's/.*"job_id":"\\([0-9a-f]*\\)".*/\\1/' /tmp/answer)
for second in $(seq 60); do
  ask --header "$token" "https://$NAME/api/jobs/$job" >/dev/null
  grep -q '"status":"completed"' /tmp/answer && break; sleep 1
done
tell the_job "$(grep -o '"status":"[a-z]*"' /tmp/answer | head -1)"
python3 - <<'END'
for family in ("tcp", "tcp6"):
    for line in open(f"/proc/net/{family}").readlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if state == "0A":
            host, port = local.split(":")
            print("LISTENS", "everywhere" if not host.strip("0") else host, int(port, 16))
END
stat --format 'MODE %a %U %n' /etc/geo_assets/environment /etc/geo_assets/migrate /etc/geo_assets/tls/key.pem /var/lib/geo_assets /var/backups/geo_assets
for unit in geo-assets-code-server geo-assets-daemon geo-assets-webserver geo-assets-api geo-assets-serve; do
  pid=$(cat /run/units/$unit.pid)
  echo "RUNS $unit $(stat --format %U /proc/$pid) $(sed -n 's/NoNewPrivs:\\t//p' /proc/$pid/status)"
done
"""

BACK = """
before=$(cat /run/units/geo-assets-serve.pid)
kill -9 -- "-$before"
for second in $(seq 60); do
  [ "$(ask --header "$token" "https://$NAME/stac/collections")" = 200 ] && [ "$(cat /run/units/geo-assets-serve.pid)" != "$before" ] && break; sleep 1
done
tell after_it_was_killed "$(ask --header "$token" "https://$NAME/stac/collections")"
tell backups "$(ls -d /var/backups/geo_assets/*Z/backup.json | wc -l)"
tell tables_in_it "$(pg_restore --list /var/backups/geo_assets/*Z/database.dump | grep -c ' TABLE DATA ')"
"""


@pytest.fixture(scope="module")
def installed():
    """What the page installs and starts says when it is asked; the log of the page."""
    machine = Machine()
    page = blocks(PAGE)
    install = [block for block in page if "apt-get" in block.text and block.is_run]
    rest = [block for block in page if block.is_run and block not in install]
    assert [block.text for block in page if block.is_run][: len(install)] == [block.text for block in install]
    try:
        machine.run("\n".join(block.text for block in install), network=True)
        verified = machine.run(
            "cd /usr/local/src/geo_assets; cp deploy/celery/geo-assets-*.service deploy/vm/*.service deploy/vm/*.timer /etc/systemd/system/\n"
            "install -m 755 deploy/vm/backup /usr/local/sbin/geo-assets-backup\n"
            "if command -v systemd-analyze; then systemd-analyze verify /etc/systemd/system/geo-assets-*.service /etc/systemd/system/geo-assets-*.timer 2>&1; fi\n"
            "rm /etc/systemd/system/geo-assets-* /usr/local/sbin/geo-assets-backup"
        )
        steps = [block.text.replace(SECRET, HOOK) + (WAIT if STARTS.search(block.text) else "") for block in rest]
        yield verified, machine.run(BOOTED + WEBHOOK + "\n".join([*steps, ASK, BAD, BACK]))
    finally:
        machine.remove()


@pytest.fixture(scope="module")
def told(installed):
    return dict(re.findall(r"^TOLD (\S+) (.*)$", installed[1], re.MULTILINE))


def test_systemd_finds_no_fault_in_the_units(installed):
    faults = [line for line in installed[0].splitlines() if "geo-assets" in line]
    assert faults == []


def test_nothing_but_nginx_listens_beyond_loopback(installed):
    listening = re.findall(r"^LISTENS (\S+) (\d+)$", installed[1], re.MULTILINE)
    beyond = {(host, port) for host, port in listening if host not in LOOPBACK}
    assert beyond == {("everywhere", "80"), ("everywhere", "443")}
    assert {port for host, port in listening if host in LOOPBACK} >= {"3000", "4266", "5432", "8000", "8080"}


def test_who_has_a_token_is_let_in_and_nobody_else(told):
    assert (told["without_a_token"], told["with_another"], told["with_a_token"]) == ("401", "401", "200")
    assert (told["the_page"], told["the_catalogue"], told["metrics"]) == ("200", "200", "200")
    assert told["another_name"] == "000", "no page under another name"


def test_dagsters_page_wants_a_login_and_its_own_pages_alone(told):
    assert (told["dagster_without_a_login"], told["dagster_with_a_login"]) == ("401", "200")
    assert (told["dagster_from_another_page"], told["dagster_from_its_own_page"]) == ("403", "200")


def test_addresses_in_the_catalogue_are_those_of_the_proxy(installed):
    assert "HREF https://geo.example.org" in installed[1].splitlines()


def test_a_job_over_https_is_done_and_so_is_one_of_the_command_line(told, installed):
    assert told["submitted"] == "202"
    assert told["the_job"] == '"status":"completed"'


def test_services_are_not_root_and_may_not_become_it(installed):
    runs = re.findall(r"^RUNS (\S+) (\S+) (\d)$", installed[1], re.MULTILINE)
    assert len(runs) == 5
    assert {(user, locked) for _, user, locked in runs} == {("geo_assets", "1")}


def test_secrets_are_for_root_alone(installed):
    modes = {
        name: (mode, owner) for mode, owner, name in re.findall(r"^MODE (\d+) (\S+) (\S+)$", installed[1], re.MULTILINE)
    }
    assert modes["/etc/geo_assets/environment"] == modes["/etc/geo_assets/migrate"] == ("600", "root")
    assert modes["/etc/geo_assets/tls/key.pem"] == ("600", "root")
    assert modes["/var/lib/geo_assets"] == ("700", "geo_assets")
    assert modes["/var/backups/geo_assets"] == ("700", "geo_assets")


def test_a_killed_service_comes_back(told):
    assert told["after_it_was_killed"] == "200"


def test_the_webhook_hears_of_a_sample_and_of_a_bad_file(told):
    assert told["heard_samples"] != "0"
    assert told["heard_of_bad_files"] == "1"


def test_there_is_a_backup_of_all_tables_which_was_restored_with_its_tokens(told):
    assert told["with_a_token"] == "200", "the token was made before the backup"
    assert told["backups"] == "1"
    assert int(told["tables_in_it"]) > 40
