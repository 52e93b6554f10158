// What a request may have of what the configuration allows builds.
import { ApiError } from './api-error.ts';
import type { RequestedBuild } from './build-schema.ts';

export interface BuildAllowance {
  /** The ids of secrets, of agent sockets and keys, and the networks that requests may name. */
  readonly secrets: readonly string[];
  readonly ssh: readonly string[];
  readonly networks: readonly string[];
  /** How long a build may take. */
  readonly timeoutMs: number;
}

/** Throws ApiError for a build that asks for more. */
export function checkAllowed(build: RequestedBuild, { secrets, ssh, networks, timeoutMs }: BuildAllowance): void {
  const { buildSecrets = [], buildSsh = [], buildNetwork = 'default', buildTimeout = 0 } = build;
  checkNames('buildSecrets', buildSecrets, secrets);
  checkNames('buildSsh', buildSsh, ssh);
  checkNames('buildNetwork', [buildNetwork], networks);
  if (buildTimeout <= timeoutMs) return;
  const [asked, most] = [buildTimeout, timeoutMs].map(ms => `${ms / 1000} s`);
  throw new ApiError(400, `buildTimeout: is ${asked}, over the limit of ${most} (builds.timeout in veneer.yaml)`);
}

function checkNames(field: string, given: readonly string[], known: readonly string[]): void {
  const unknown = given.find(name => !known.includes(name));
  if (unknown === undefined) return;
  const choice = known.length > 0 ? `requests may use ${known.join(', ')}` : 'requests may use none';
  throw new ApiError(400, `${field}: "${unknown}" is not allowed here: ${choice} (builds.requests in veneer.yaml)`);
}
