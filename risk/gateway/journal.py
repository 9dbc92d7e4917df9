"""Changes of tables that cannot be made without their record in the audit chain."""

from datetime import UTC, datetime

from sqlalchemy import Connection, Executable, Table, insert, update

from risk.gateway import schema
from risk.gateway.audit import Head, link
from risk.gateway.reads import Found, rows_of
from risk.gateway.rows import Row, words
from risk.gateway.strategy_reads import StrategyReads


class Journal(StrategyReads):
    """One transaction: its changes, their records, and the questions as it sees them.

    Args:
        connection: with the write lock held.
        head: of the chain.
        epoch: of the writer; 0 for one that has none and may only trip.
        owner: who writes.
        code: version of the code.
    """

    def __init__(
        self, connection: Connection, head: Head, *, epoch: int, owner: str, code: str
    ) -> None:
        self._connection = connection
        self.head = head
        self._epoch = epoch
        self._owner = owner
        self._code = code
        self._records: list[Row] = []
        limits = self.limits()
        self._limits_version = 0 if limits is None else limits.version

    def _rows(self, statement: Executable) -> list[Found]:
        return rows_of(self._connection.execute(statement))

    def flush(self) -> None:
        """Write the records; the ledger calls it as the last thing of a transaction."""
        if self._records:
            self._connection.execute(insert(schema.audit), self._records)
            self._records = []

    def audit(self, kind: str, actor: str, payload: object, model: str | None = None) -> str:
        """Add a record to the chain, and return its hash.

        Args:
            kind: of the record, without a dot: those with one are changes of tables.
            actor: who or what did it.
            payload: what canonical JSON can hold.
            model: hash of the artefact that it is about.
        """
        if "." in kind:
            raise ValueError(f"the kind of a record has no dot, was {kind}")
        return self._record(kind, actor, payload, model)

    def _insert(
        self, table: Table, row: Row, *, actor: str | None = None, model: str | None = None
    ) -> None:
        self._connection.execute(insert(table), row)
        self._record(f"{table.name}.insert", actor or self._owner, row, model)

    def _update(self, table: Table, key: Row, changed: Row, *, model: str | None = None) -> None:
        statement = update(table).where(*(table.c[name] == value for name, value in key.items()))
        self._connection.execute(statement, changed)
        self._record(f"{table.name}.update", self._owner, {**key, **changed}, model)

    def _record(self, kind: str, actor: str, payload: object, model: str | None) -> str:
        seq = self.head.seq + 1
        body, found = link(
            {
                "seq": seq,
                "prev": self.head.hash,
                "at": datetime.now(UTC),
                "epoch": self._epoch,
                "actor": words(actor),
                "kind": kind,
                "payload": payload,
                "model": model,
                "limits": self._limits_version,
                "code": self._code,
            }
        )
        self._records.append({"seq": seq, "hash": found, "body": body})
        self.head = Head(seq, found)
        return found
