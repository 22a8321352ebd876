package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"taskflow/internal/httpapi/oas"
	"taskflow/internal/store"
)

// readyTimeout bounds what /readyz asks of the database.
const readyTimeout = 2 * time.Second

func (a *api) GetLivez(context.Context, oas.GetLivezRequestObject) (oas.GetLivezResponseObject, error) {
	return jsonReply(http.StatusOK, []byte(`{"status":"ok"}`)), nil
}

func (a *api) GetReadyz(ctx context.Context, _ oas.GetReadyzRequestObject) (oas.GetReadyzResponseObject, error) {
	if a.stopping.Load() {
		return nil, newProblem(slugUnavailable, "The server is shutting down.")
	}
	version, err := a.schemaVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if version < a.options.SchemaVersion {
		return nil, newProblem(slugUnavailable, fmt.Sprintf("The database's schema is at version %d; this server needs %d.", version, a.options.SchemaVersion))
	}
	if err := a.options.Gate.Ready(ctx); err != nil {
		return nil, newProblem(slugUnavailable, "It cannot be found out now whether credentials are good.")
	}
	if a.keys.newest() == "" {
		return nil, newProblem(slugUnavailable, "There is no key for callback URLs yet.")
	}
	return jsonReply(http.StatusOK, []byte(`{"status":"ok"}`)), nil
}

// schemaVersion reads the version of the database's schema, once for all who ask meanwhile: they need no credentials, and no
// rate holds for them, so they must not take the connections on which keys are read.
func (a *api) schemaVersion(ctx context.Context) (int64, error) {
	version, err, _ := a.readiness.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
		defer cancel()
		return a.reader.SchemaVersion(ctx)
	})
	if err != nil {
		return 0, err
	}
	return version.(int64), nil
}
