"""The columns of a training batch.

A row is one day slot: the day, and every book that any replica held on it. R replicas, P agents of
the policy, N assets, B features of a position, K of a book.
"""

DAY = "day"  # int64, row of the market arrays
BOOK_ASSET = "book_asset"  # (B, R, P, N), less the mean over the investable names
BOOK = "book"  # (R, P, K)
ACTIONS = "actions"  # (R, P, N + 1), before clamping
ACTION_LOGP = "action_logp"  # (R, P, N + 1), of each component
ADVANTAGES = "advantages"  # (R, P), mean 0 over the replicas, standard deviation 1
VALUE_TARGETS = "value_targets"  # (R, P), in scaled reward
ALIVE = "alive"  # (R, P) bool, the book was not ruined before
