// Package engine applies commands to flows: it queues them, decides them in batches with flows.Decide, and commits each
// batch in one transaction of the store, so that a busy server pays for one commit where it makes a hundred changes,
// and an idle one waits for nobody.
//
// It holds no rule of the domain and no SQL. The HTTP layer calls [Engine.Apply] and [Engine.ApplyAll]; cmd/server
// starts and stops it.
package engine
