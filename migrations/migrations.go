// Package migrations holds the schema of each database as numbered goose files, embedded. It is data: the packages pg and
// sqlite apply it, each its own half.
//
// A migration is never altered once it has been released; what follows is a new file. Each schema serves the release
// before it too, so that replicas can be upgraded one by one: add first, and remove a release later.
package migrations

import "embed"

// Postgres and SQLite hold the files at the folder of the same name, postgres/ and sqlite/.
var (
	//go:embed postgres/*.sql
	Postgres embed.FS
	//go:embed sqlite/*.sql
	SQLite embed.FS
)
