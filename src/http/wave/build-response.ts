// What the API says of a build: field names are those that existing clients read, absent fields are left out.
import type { BuildRecord } from '../../builds/record.ts';
import type { CopySpec } from '../../builds/spec.ts';

/** The path of a build's or a copy's log. */
export function buildLogPath(id: string): string {
  return `/v1alpha1/${isMirror(id) ? 'mirrors' : 'builds'}/${id}/logs`;
}

/** Decimal seconds, and never a whole number: clients read an integer as nanoseconds. */
export function durationSeconds(fromIso: string, toIso: string): number {
  const ms = Math.max(1, Date.parse(toIso) - Date.parse(fromIso));
  return ms % 1000 === 0 ? (ms + 1) / 1000 : ms / 1000;
}

export function hasEnded({ status }: BuildRecord): boolean {
  return status === 'succeeded' || status === 'failed';
}

/**
 * The response of /v1alpha1/builds/{id} and /v1alpha1/mirrors/{id}. Without the requester, as it is visible to anyone who may pull the
 * image.
 */
export function buildResponse(build: BuildRecord, targetImage: string, more: BuildDetails = {}) {
  const { spec, failure } = build;
  const platforms = spec.platforms ?? build.platforms ?? [];
  return {
    ...kindOf(build),
    ...(more.scanId !== undefined && { scanId: more.scanId }),
    targetImage: withProtocol(targetImage, spec.format),
    creationTime: build.createdAt,
    ...(build.startedAt && { startTime: build.startedAt }),
    ...(build.endedAt && { duration: durationSeconds(build.startedAt ?? build.createdAt, build.endedAt) }),
    ...(hasEnded(build) && {
      exitStatus: build.status === 'succeeded' ? 0 : 1,
      succeeded: build.status === 'succeeded',
    }),
    ...(platforms.length > 0 && { platform: platforms.join(','), platforms }),
    format: spec.format ?? 'docker',
    ...(build.digest && { digest: build.digest }),
    ...(build.backends.length > 0 && { backends: build.backends }),
    starts: build.starts,
    ...(failure && { reason: describeFailure(build), failure }),
    ...(more.logs !== undefined && { logs: more.logs }),
  };
}

export interface BuildDetails {
  /** Of the image that it has made. */
  readonly scanId?: string | undefined;
  /** The end of its log, as text. */
  readonly logs?: string | undefined;
}

/** As clients of its format pull it. */
export function withProtocol(image: string, format: 'sif' | undefined): string {
  return format === 'sif' ? `oras://${image}` : image;
}

/** Clients know other states of a mirror than we: ours is in `state`. */
function kindOf(build: BuildRecord) {
  const { id, spec, status, packages } = build;
  const compression = 'compression' in spec ? spec.compression : undefined;
  const source = spec.kind === 'copy' && { sourceImage: sourceImage(spec.source), sourceDigest: spec.source.digest };
  if (isMirror(id)) {
    const exitCode = hasEnded(build) && { exitCode: status === 'succeeded' ? 0 : 1 };
    return { mirrorId: id, buildId: id, status: completion(build), state: status, ...exitCode, ...source };
  }
  return {
    ...{ buildId: id, status, ...source },
    ...(spec.kind === 'containerfile' && { dockerFile: spec.containerFile }),
    ...(packages && { buildTemplate: packages.template }),
    ...(packages?.environment !== undefined && { condaFile: packages.environment }),
    ...(compression && { compression }),
  };
}

/** Whether it is the id of a plain copy. */
export function isMirror(id: string): boolean {
  return id.startsWith('mr-');
}

function completion(build: BuildRecord): 'PENDING' | 'COMPLETED' {
  return hasEnded(build) ? 'COMPLETED' : 'PENDING';
}

function sourceImage({ registry, repository, tag, digest }: CopySpec['source']): string {
  return `${registry}/${repository}${tag === undefined ? `@${digest}` : `:${tag}`}`;
}

/** The answer of /v1alpha1/builds/{id}/status. */
export function buildStatusResponse(build: BuildRecord) {
  const isOver = hasEnded(build);
  return {
    id: build.id,
    status: completion(build),
    startTime: build.startedAt ?? build.createdAt,
    ...(build.endedAt && { duration: durationSeconds(build.startedAt ?? build.createdAt, build.endedAt) }),
    ...(isOver && { succeeded: build.status === 'succeeded' }),
  };
}

/** One line: what failed, on which platform, in which step. */
export function describeFailure({ id, failure }: BuildRecord): string {
  if (!failure) return `the build ${id} failed`;
  const { reason, platform, step } = failure;
  const location = [platform, step].filter(Boolean).join(', ');
  return location ? `${reason} (${location})` : reason;
}
