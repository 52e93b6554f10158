// A request for a build, before anything is resolved.
import type { Platform } from '../oci/platform.ts';
import type { ContextSource } from './context/store-context.ts';
import type { ContainerFileSpec } from './spec.ts';

export interface BuildRequest {
  /** The text of the Containerfile. */
  readonly containerFile: string;
  readonly context?: ContextSource | undefined;
  /** Undefined: those of the policy. */
  readonly platforms?: readonly Platform[] | undefined;
  readonly args?: Readonly<Record<string, string>> | undefined;
  /** The target stage; undefined: the last. */
  readonly stage?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Ids of configured secrets. */
  readonly secrets?: readonly string[] | undefined;
  readonly ssh?: readonly string[] | undefined;
  readonly network?: ContainerFileSpec['network'] | undefined;
  readonly attestations?: ContainerFileSpec['attestations'] | undefined;
  readonly compression?: ContainerFileSpec['compression'];
  readonly cacheRepository?: string | undefined;
  readonly changes?: ContainerFileSpec['changes'];
  readonly target: ContainerFileSpec['target'];
  readonly timeoutMs?: number | undefined;
}

export interface RequestLimits {
  readonly maxContainerFileBytes: number;
  /** The maximum number of args, labels, secrets, ssh ids and platforms, each. */
  readonly maxItems: number;
  /** The maximum size of an arg or a label, name and value together. */
  readonly maxItemBytes: number;
}

export const DEFAULT_REQUEST_LIMITS: RequestLimits = {
  maxContainerFileBytes: 1024 * 1024,
  maxItems: 128,
  maxItemBytes: 32 * 1024,
};

/** As shells and all builders accept it. */
const ARG_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const ID = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const LABEL_NAME = /^[^\s\p{Cc}="']{1,255}$/u;

/** Throws InvalidBuild, which names the field and the rule. */
export function checkRequest(request: BuildRequest, limits: RequestLimits): void {
  checkBytes('containerFile', request.containerFile, limits.maxContainerFileBytes);
  checkPairs('args', request.args ?? {}, ARG_NAME, limits);
  checkPairs('labels', request.labels ?? {}, LABEL_NAME, limits);
  checkIds('secrets', request.secrets ?? [], limits);
  checkIds('ssh', request.ssh ?? [], limits);
  checkCount('platforms', request.platforms ?? [], limits);
  if (request.platforms?.length === 0) throw new InvalidBuild('platforms: at least one is required');
  checkBytes('stage', request.stage ?? '', MAX_STAGE_BYTES);
}

const MAX_STAGE_BYTES = 128;

function checkPairs(field: string, pairs: Readonly<Record<string, string>>, name: RegExp, limits: RequestLimits): void {
  const entries = Object.entries(pairs);
  checkCount(field, entries, limits);
  for (const [key, value] of entries) {
    if (!name.test(key)) throw new InvalidBuild(`${field}: ${quote(key)} is not a valid name; expected ${name.source}`);
    if (value.includes('\0')) throw new InvalidBuild(`${field}: the value of ${quote(key)} contains a NUL character`);
    checkBytes(`${field}: ${quote(key)}`, key + value, limits.maxItemBytes);
  }
}

function checkIds(field: string, ids: readonly string[], limits: RequestLimits): void {
  checkCount(field, ids, limits);
  const bad = ids.find(id => !ID.test(id));
  if (bad !== undefined) throw new InvalidBuild(`${field}: ${quote(bad)} is not a valid id; expected ${ID.source}`);
}

function checkCount(field: string, items: readonly unknown[], { maxItems }: RequestLimits): void {
  if (items.length > maxItems) throw new InvalidBuild(`${field}: more than ${maxItems} items`);
}

function checkBytes(field: string, text: string, limit: number): void {
  if (Buffer.byteLength(text) > limit) throw new InvalidBuild(`${field}: more than ${limit} bytes`);
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

/** The message names the field and the rule, and contains no secret. */
export class InvalidBuild extends Error {
  override readonly name = 'InvalidBuild';
}
