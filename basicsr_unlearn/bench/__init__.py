"""`basicsr bench`: many methods on one original, attacked alike, and the leaderboard."""
