"""How Postgres says "no more connections" (SQLSTATE 53300) to a client that is just connecting.

libpq hands the SQLSTATE of a failed query over, but of a failed login only the server's text, in the language of
the server's lc_messages; and on a German server that text is German. The phrases are those of PostgreSQL's own
message catalogues (src/backend/po): postmaster.c "sorry, too many clients already", and postinit.c "remaining
connection slots are reserved …", "too many connections for role/database …".
"""

from __future__ import annotations

from typing import Literal

Refusal = Literal["cluster", "role", "database"]

_CLUSTER = (
    "too many clients already",
    "remaining connection slots are reserved",
    "schon zu viele Verbindungen",
    "die verbleibenden Verbindungen sind für",
    "ya tenemos demasiados clientes",
    "las conexiones restantes están reservadas",
    "trop de clients sont déjà connectés",
    "les emplacements de connexions restants sont réservés",
    "troppi client già connessi",
    "i rimanenti slot di connessione sono riservati",
    "クライアント数が多すぎます",
    "残りの接続スロットは",
    "უკვე მეტისმეტად ბევრი კლიენტია",
    "최대 동시 접속자 수를 초과했습니다",
    "남은 연결 슬롯은",
    "уже слишком много клиентов",
    "оставшиеся слоты подключений зарезервированы",
    "ledsen, för många klienter",
    "resterande anslutningsslottar är reserverade",
    "вже забагато клієнтів",
    "слоти підключень, які залишились, зарезервовані",
    "已经有太多的客户",
    "客户端连接过多",
    "剩余连接槽位保留给",
    "抱歉，客戶端過多",
    "剩餘的連線槽保留給",
    "已保留的连接位置",
)
_ROLE = (
    "too many connections for role",
    "zu viele Verbindungen von Rolle",
    "demasiadas conexiones para el rol",
    "trop de connexions pour le rôle",
    "troppe connessioni per il ruolo",
    "からの接続が多すぎます",
    "მეტისმეტად ბევრი კავშირი როლისთვის",
    "롤의 최대 동시 접속수를 초과했습니다",
    "слишком много подключений для роли",
    "för många uppkopplingar för roll",
    "занадто багато підключень для ролі",
    "发起的连接太多了",
    "角色…的连接过多",
    "角色…的連線太多",
)
_DATABASE = (
    "too many connections for database",
    "zu viele Verbindungen für Datenbank",
    "demasiadas conexiones para la base de datos",
    "trop de connexions pour la base de données",
    "troppe connessioni al database",
    "への接続が多すぎます",
    "ძალიან ბევრი კავშირი ბაზისთვის",
    "데이터베이스 최대 접속수를 초과했습니다",
    "слишком много подключений к БД",
    "för många uppkopplingar till databasen",
    "занадто багато підключень до бази даних",
    "数据库…的连接过多",
    "資料庫…的連線太多",
    "的连接太多了",  # after the role's, which ends in it
)


def refusal(message: str) -> Refusal | None:
    """Which limit the server named in `message`: the cluster's, the role's or the database's; None: another
    failure."""
    text = " ".join(message.split())  # catalogues wrap long phrases
    phrases: tuple[tuple[Refusal, tuple[str, ...]], ...] = (
        ("cluster", _CLUSTER),
        ("role", _ROLE),
        ("database", _DATABASE),
    )
    for which, known in phrases:
        if any(all(part in text for part in phrase.split("…")) for phrase in known):
            return which
    return None
