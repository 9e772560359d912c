"""The configuration of the measured ejabberd: nothing that would hold it back.

No TLS, no shaper, plain passwords (messages are measured, not SCRAM), stream management with
room for every message that may be on the way, open registration, few modules, no access log.
"""

from __future__ import annotations

__all__ = ["configuration"]

_COMMON = """\
hosts: [localhost]
loglevel: warning
log_rotate_count: 0
default_ram_db: mnesia
auth_method: internal
auth_password_format: plain
disable_sasl_mechanisms: [digest-md5, X-OAUTH2]
shaper_rules:
  max_user_sessions: 10
  max_user_offline_messages: 1000000
access_rules:
  everybody:
    allow: all
listen:
  -
    port: {port}
    ip: 127.0.0.1
    module: ejabberd_c2s
    backlog: 1024
    shaper: none
    access: everybody
    max_stanza_size: 262144
modules:
  mod_admin_extra: {{}}
  mod_disco: {{}}
  mod_roster: {{}}
  mod_register:
    access: everybody
    ip_access: all
  mod_stream_mgmt:
    max_ack_queue: 100000
  mod_offline:
    access_max_user_messages: max_user_offline_messages
{archive}
registration_timeout: infinity
"""

_ARCHIVE = """\
    db_type: sql
  mod_mam:
    db_type: sql
    default: always
    assume_mam_usage: true
sql_type: pgsql
sql_server: 127.0.0.1
sql_port: {sql_port}
sql_database: ejabberd
sql_username: postgres
sql_password: ""
"""


def configuration(port: int, sql_port: int | None) -> str:
    """ejabberd.yml for clients on `port`; with an archive on PostgreSQL if it has a port.

    Sessions are in RAM and accounts in mnesia in both; messages that wait for offline users
    are in mnesia or, with the archive, in PostgreSQL.
    """
    archive = "" if sql_port is None else _ARCHIVE.format(sql_port=sql_port)
    return _COMMON.format(port=port, archive=archive)
