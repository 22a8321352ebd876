// Package engine applies commands to flows: it queues them, decides them in batches with flows.Decide, and commits each
// batch in one transaction of the store, so that a busy server pays for one commit where it makes a hundred changes,
// and an idle one waits for nobody. It publishes external events in the same way, ends the waits whose time has come, goes
// on with deliveries that were cut off, sweeps what has expired, and lets any number of readers follow what is committed.
//
// It holds no rule of the domain and no SQL. The HTTP layer calls [Engine.Apply], [Engine.ApplyAll], [Engine.Publish]
// and [Engine.Follow]; cmd/server starts and stops it.
package engine
