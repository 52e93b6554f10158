// The `access` part of the configuration, as this room takes it. All of it was checked when the configuration was read, but patterns and key.
import type { Permission } from './right.ts';

export interface AccessOptions {
  /** The path of a file of users with bcrypt hashes, as `htpasswd -B` writes it. Without it there are no users. */
  readonly htpasswd?: string | undefined;
  /** How long a bearer token lives; at least a minute, as clients expect. */
  readonly tokenTtlMs: number;
  /** A private key, Ed25519 or P-256, as PEM or JWK. Without it one is made, and kept under the data directory. */
  readonly signingKey?: string | undefined;
  readonly grants: readonly Grant[];
}

/** What the configuration allows, and to whom: to users by their names, or to anyone, known or not. */
export interface Grant extends Permission {
  readonly users?: readonly string[] | undefined;
  readonly anyone?: boolean | undefined;
}
