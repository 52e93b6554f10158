// What the augment API says of a token: field names are those that existing clients read, absent fields are left out.
import type { Digest } from '../../oci/digest.ts';
import type { TokenRecord } from '../../pull/tokens/record.ts';
import type { Submission } from '../../submit/submit.ts';
import { describeFailure, durationSeconds, hasEnded } from './build-response.ts';

/** How clients reach us. */
export interface View {
  /** With its port. */
  readonly host: string;
  /** What an image of a repository is called, by its full name. */
  readonly addressOf: (image: string) => string;
}

/** Seconds, and never a whole number: clients read an integer as nanoseconds. */
const NO_WAIT_SECONDS = 0.001;

/** The image to pull: that of the token, by tag, or by our digest where the request named a digest; a frozen one by its own name. */
function targetImage(
  { id, repository, tag, targetDigest, frozenImage }: TokenRecord,
  { host, addressOf }: View,
): string {
  if (frozenImage !== undefined) return addressOf(frozenImage);
  const name = `${host}/wt/${id}/${repository}`;
  return tag === undefined ? `${name}@${targetDigest}` : `${name}:${tag}`;
}

/**
 * The answer to a submit: `succeeded` tells clients that there is nothing to wait for. A frozen image needs no token, but the first version
 * of the API has always given one.
 */
export function submitResponse(submission: Submission, view: View, version: 1 | 2 = 2) {
  const { record, build, isCached, warnings = [], moved = [] } = submission;
  const hasToken = record.frozenImage === undefined || version === 1;
  return {
    requestId: record.id,
    ...(hasToken && { containerToken: record.id, expiration: record.expiresAt }),
    targetImage: targetImage(record, view),
    ...digestOf({ record, build }),
    containerImage: record.containerImage,
    ...(build && { buildId: build.id, cached: isCached === true }),
    ...kindOf(record),
    ...outcomeOf({ record, build }),
    ...(warnings.length > 0 && { warnings }),
    ...(moved.length > 0 && { moved }),
  };
}

/** The answer of /v1alpha2/container/{id}/status: an augmented image is ready at once. `logAddress` is where a build's log is. */
export function statusResponse(submission: Submission, logAddress: (id: string) => string) {
  const { record, build } = submission;
  const { id, buildId, createdAt } = record;
  const isOver = !isUnderWay(submission);
  const isLost = !isReady(record) && build === undefined;
  return {
    id,
    status: isOver ? 'DONE' : build?.status === 'running' ? 'BUILDING' : 'PENDING',
    ...(buildId !== undefined && { [isCopy(buildId) ? 'mirrorId' : 'buildId']: buildId }),
    ...(isOver && { succeeded: hasSucceeded(submission) }),
    ...(build?.failure && { reason: describeFailure(build), detailsUri: logAddress(build.id) }),
    ...(isLost && { reason: `the record of ${buildId} was deleted` }),
    creationTime: createdAt,
    ...(isOver && { duration: build?.endedAt ? durationSeconds(build.createdAt, build.endedAt) : NO_WAIT_SECONDS }),
  };
}

/** The answer of /v1alpha2/container/{id}. */
export function recordResponse({ record, build }: Submission, view: View) {
  const { containerConfig, containerPlatform, containerIncludes, fingerprint, towerWorkspaceId } = record.request;
  return withoutAbsent({
    id: record.id,
    workspaceId: towerWorkspaceId,
    containerImage: record.containerImage,
    containerConfig: containerConfig && withoutAbsent(containerConfig),
    platform: containerPlatform,
    containerIncludes,
    fingerprint,
    timestamp: record.createdAt,
    buildId: record.buildId,
    sourceImage: sourceImage(record),
    sourceDigest: record.sourceDigest ?? build?.digest,
    waveImage: targetImage(record, view),
    waveDigest: digestOf({ record, build }).targetDigest,
    expiration: record.expiresAt,
    ...kindOf(record),
    ...outcomeOf({ record, build }),
  });
}

/** What is served where it is known: of a build, once it is there, unless the token changes it. */
function digestOf({ record, build }: Submission): { readonly targetDigest?: Digest } {
  const { targetDigest, sourceDigest = build?.digest, ruleSteps = [], augmentation, layerSources } = record;
  const { layers: _, attestations: __, ...changes } = augmentation;
  const isPlain = ruleSteps.length === 0 && layerSources.length === 0 && Object.keys(changes).length === 0;
  const known = targetDigest ?? (isPlain ? sourceDigest : undefined);
  return known === undefined ? {} : { targetDigest: known };
}

function kindOf({ frozenImage, isMirrored = false }: TokenRecord) {
  return { freeze: frozenImage !== undefined && !isMirrored, mirror: isMirrored };
}

function isCopy(buildId: string): boolean {
  return buildId.startsWith('mr-');
}

/** Absent while the image is being made. */
function outcomeOf(submission: Submission): { readonly succeeded?: boolean } {
  return isUnderWay(submission) ? {} : { succeeded: hasSucceeded(submission) };
}

function isUnderWay({ record, build }: Submission): boolean {
  return !isReady(record) && build !== undefined && !hasEnded(build);
}

function hasSucceeded({ record, build }: Submission): boolean {
  return isReady(record) || build?.status === 'succeeded';
}

/** Whether there was nothing to wait for from the beginning. */
function isReady({ sourceDigest, isDryRun = false }: TokenRecord): boolean {
  return sourceDigest !== undefined || isDryRun;
}

/** The answer of GET /container-token/{token}. */
export function describeTokenResponse({ record, build }: Submission, view: View) {
  const { containerConfig, containerPlatform, fingerprint, towerWorkspaceId } = record.request;
  return {
    token: record.id,
    expiration: record.expiresAt,
    request: withoutAbsent({
      workspaceId: towerWorkspaceId,
      containerImage: record.containerImage,
      containerConfig: containerConfig && withoutAbsent(containerConfig),
      platform: containerPlatform,
      fingerprint,
      timestamp: record.createdAt,
    }),
    source: withoutAbsent({ image: sourceImage(record), digest: record.sourceDigest ?? build?.digest }),
    wave: withoutAbsent({ image: targetImage(record, view), digest: digestOf({ record, build }).targetDigest }),
  };
}

function sourceImage({ registry, repository, tag, sourceDigest }: TokenRecord): string {
  return `${registry}/${repository}${tag === undefined ? `@${sourceDigest}` : `:${tag}`}`;
}

/** Without undefined and empty fields; `false` stays. */
function withoutAbsent(fields: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0)),
  );
}
