// The responses of the augment API about a token: field names are those that existing clients read, and absent fields are omitted.
import type { BuildRecord } from '../../builds/record.ts';
import type { Digest } from '../../oci/digest.ts';
import type { TokenRecord } from '../../pull/tokens/record.ts';
import { findRefusal, hasScanEnded } from '../../scans/record.ts';
import type { Submission } from '../../submit/submit.ts';
import { describeFailure, durationSeconds, hasEnded, isMirror, withProtocol } from './build-response.ts';

/** How clients reach us. */
export interface View {
  /** With its port. */
  readonly host: string;
  /** The address of an image by its full name. */
  readonly addressOf: (image: string) => string;
}

/** Seconds, and never an integer: clients read integers as nanoseconds. */
const NO_WAIT_SECONDS = 0.001;

/**
 * The image to pull: that of the token, by tag, or by our digest where the request had a digest; a frozen one by its own name.
 */
function targetImage(
  { id, repository, tag, targetDigest, frozenImage, format }: TokenRecord,
  { host, addressOf }: View,
): string {
  if (frozenImage !== undefined) return withProtocol(addressOf(frozenImage), format);
  const name = `${host}/wt/${id}/${repository}`;
  return tag === undefined ? `${name}@${targetDigest}` : `${name}:${tag}`;
}

/**
 * The response to a submit: `succeeded` tells clients that there is nothing to wait for. A frozen image needs no token, but the first
 * version of the API has always returned one.
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
    ...(record.scan && { scanId: record.scan.id }),
    ...kindOf(record),
    ...outcomeOf(submission),
    ...(warnings.length > 0 && { warnings }),
    ...(moved.length > 0 && { moved }),
  };
}

/**
 * The response of /v1alpha2/container/{id}/status: an augmented image is ready at once. `addressOf` is the page of a build's log or a scan.
 */
export function statusResponse(submission: Submission, addressOf: (id: string) => string) {
  const { record, build, scan } = submission;
  const { id, buildId, createdAt } = record;
  const isOver = !isUnderWay(submission);
  const isMissing = !isReady(record) && build === undefined;
  const refusal = isOver && isBuilt(submission) ? findScanRefusal(submission) : undefined;
  return {
    id,
    status: statusOf(submission),
    ...(record.scan && { scanId: record.scan.id }),
    ...(scan?.status === 'succeeded' && { vulnerabilities: scan.counts }),
    ...(buildId !== undefined && { [isMirror(buildId) ? 'mirrorId' : 'buildId']: buildId }),
    ...(isOver && { succeeded: hasSucceeded(submission) }),
    ...(build?.failure && { reason: describeFailure(build), detailsUri: addressOf(build.id) }),
    ...(isMissing && { reason: `the record of ${buildId} was deleted` }),
    ...(refusal !== undefined && record.scan && { reason: refusal, detailsUri: addressOf(record.scan.id) }),
    creationTime: createdAt,
    ...(isOver && { duration: durationOf(submission) }),
  };
}

export function statusOf(submission: Submission): 'PENDING' | 'BUILDING' | 'SCANNING' | 'DONE' {
  if (!isUnderWay(submission)) return 'DONE';
  if (isBuilt(submission)) return 'SCANNING';
  return submission.build?.status === 'running' ? 'BUILDING' : 'PENDING';
}

function durationOf({ record, build, scan }: Submission): number {
  const endedAt = (record.scan?.mode === 'required' && scan?.endedAt) || build?.endedAt;
  // An image that was built or scanned before took no time.
  const from = build?.createdAt ?? record.createdAt;
  return endedAt && endedAt > from ? durationSeconds(from, endedAt) : NO_WAIT_SECONDS;
}

/** The response of /v1alpha2/container/{id}. */
export function recordResponse({ record, build, scan }: Submission, view: View) {
  const { containerConfig, containerPlatform, containerIncludes, fingerprint, towerWorkspaceId } = record.request;
  const { buildRepository, cacheRepository, zoneId, fusionVersion } = record.request;
  return withoutAbsent({
    id: record.id,
    workspaceId: towerWorkspaceId,
    containerImage: record.containerImage,
    containerConfig: containerConfig && withoutAbsent(containerConfig),
    platform: containerPlatform,
    containerIncludes,
    fingerprint,
    timestamp: record.createdAt,
    zoneId,
    fusionVersion,
    ...{ buildRepository, cacheRepository },
    containerFile: containerFileOf(build),
    ...buildOf(record),
    sourceImage: sourceImage(record),
    sourceDigest: record.sourceDigest ?? build?.digest,
    waveImage: targetImage(record, view),
    waveDigest: digestOf({ record, build }).targetDigest,
    expiration: record.expiresAt,
    scanId: record.scan?.id,
    ...kindOf(record),
    ...outcomeOf({ record, build, scan }),
  });
}

/** The digest that is served, if known: for a build, once it has ended, unless the token changes the image. */
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

/** Absent while the image is being built. */
function outcomeOf(submission: Submission): { readonly succeeded?: boolean } {
  return isUnderWay(submission) ? {} : { succeeded: hasSucceeded(submission) };
}

function isUnderWay({ record, build, scan }: Submission): boolean {
  if (!isReady(record) && build !== undefined && !hasEnded(build)) return true;
  const needsScan = record.scan?.mode === 'required' && isBuilt({ record, build });
  return needsScan && scan !== undefined && !hasScanEnded(scan);
}

function hasSucceeded(submission: Submission): boolean {
  return isBuilt(submission) && findScanRefusal(submission) === undefined;
}

function isBuilt({ record, build }: Submission): boolean {
  return isReady(record) || build?.status === 'succeeded';
}

function findScanRefusal({ record, scan }: Submission): string | undefined {
  return record.scan && findRefusal(record.scan, scan);
}

/** Whether the image was ready from the start. */
function isReady({ sourceDigest, isDryRun = false }: TokenRecord): boolean {
  return sourceDigest !== undefined || isDryRun;
}

/** The response of GET /container-token/{token}. */
export function describeTokenResponse({ record, build }: Submission, view: View) {
  const { containerConfig, containerPlatform, fingerprint, towerWorkspaceId, zoneId } = record.request;
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
      zoneId,
    }),
    ...(record.buildId !== undefined && { build: describeBuild({ record, build }) }),
    source: withoutAbsent({ image: sourceImage(record), digest: record.sourceDigest ?? build?.digest }),
    wave: withoutAbsent({ image: targetImage(record, view), digest: digestOf({ record, build }).targetDigest }),
  };
}

function containerFileOf(build: BuildRecord | undefined): string | undefined {
  return build?.spec.kind === 'containerfile' ? build.spec.containerFile : undefined;
}

function buildOf({ buildId, isBuildNew }: TokenRecord) {
  return { buildId, ...(buildId !== undefined && isMirror(buildId) && { mirrorId: buildId }), buildNew: isBuildNew };
}

/** What is built for a token, and from what. */
function describeBuild({ record, build }: Submission) {
  const { buildRepository, cacheRepository } = record.request;
  const condaFile = build?.packages?.environment;
  const buildTemplate = build?.packages?.template;
  const from = { containerFile: containerFileOf(build), condaFile, buildTemplate };
  return withoutAbsent({ ...buildOf(record), ...from, buildRepository, cacheRepository });
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
