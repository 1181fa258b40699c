// Package site is one running holdfast: it opens the data directory, puts the
// logs, keys, decisions, views and the gateway together, and takes them down
// again in order.
//
//	DATA/site.json     id and name of the site
//	DATA/mesh.json     what the site learned when it joined a mesh by invitation
//	DATA/lock          held by the process that runs the site
//	DATA/keys/         site.key (private, 0600), ring (the site keys), host.key and ca.key (SSH, 0600), mesh.key (identity in the mesh, 0600), table (wrapped data keys)
//	DATA/log/ctl|rec/  the two logs, one directory an epoch
//	DATA/log/order     the apply log: in which order the ctl logs were applied
//	DATA/views/        projections: disposable
//	DATA/run/          site.json while the site runs: where local programs find it
package site
