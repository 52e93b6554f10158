// What the augment API says of a token: field names are those that existing clients read, absent fields are left out.

import type { ShownRequest, TokenRecord } from '../tokens/record.ts';
import type { SubmitRequest } from './augment-schema.ts';
import type { ContainerConfig, RequestedLayer } from './config-schema.ts';

/** Seconds, and never a whole number: clients read an integer as nanoseconds. */
const NO_WAIT_SECONDS = 0.001;

/** The image to pull for a token, on `publicHost` (host with its port): by tag, or by our digest where the request named a digest. */
export function targetImage(record: TokenRecord, publicHost: string): string {
  const name = `${publicHost}/wt/${record.id}/${record.repository}`;
  return record.tag === undefined ? `${name}@${record.targetDigest}` : `${name}:${record.tag}`;
}

/** The answer to a submit: `succeeded` tells clients that there is nothing to wait for. */
export function submitResponse(record: TokenRecord, publicHost: string) {
  return {
    requestId: record.id,
    containerToken: record.id,
    targetImage: targetImage(record, publicHost),
    targetDigest: record.targetDigest,
    expiration: record.expiresAt,
    containerImage: record.containerImage,
    freeze: false,
    mirror: false,
    succeeded: true,
  };
}

/** The answer of /v1alpha2/container/{id}/status: an augmented image is ready at once. */
export function statusResponse(record: TokenRecord) {
  return {
    id: record.id,
    status: 'DONE',
    succeeded: true,
    creationTime: record.createdAt,
    duration: NO_WAIT_SECONDS,
  };
}

/** The answer of /v1alpha2/container/{id}. */
export function recordResponse(record: TokenRecord, publicHost: string) {
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
    sourceImage: sourceImage(record),
    sourceDigest: record.sourceDigest,
    waveImage: targetImage(record, publicHost),
    waveDigest: record.targetDigest,
    expiration: record.expiresAt,
    freeze: false,
    mirror: false,
    succeeded: true,
  });
}

/** The answer of GET /container-token/{token}. */
export function describeTokenResponse(record: TokenRecord, publicHost: string) {
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
    source: { image: sourceImage(record), digest: record.sourceDigest },
    wave: { image: targetImage(record, publicHost), digest: record.targetDigest },
  };
}

/** The part of a request that may be stored and shown: no layer data, no access token, no user info or query of an address. */
export function shownRequest(request: SubmitRequest): ShownRequest {
  const { containerPlatform, containerIncludes, containerConfig, towerWorkspaceId, workflowId, fingerprint } = request;
  return {
    containerPlatform,
    containerIncludes: [...containerIncludes],
    containerConfig: containerConfig && shownConfig(containerConfig),
    towerWorkspaceId,
    workflowId,
    fingerprint,
  };
}

function shownConfig(config: ContainerConfig): ShownRequest['containerConfig'] {
  return { ...config, layers: config.layers?.map(layer => ({ ...layer, location: shownLocation(layer) })) };
}

function shownLocation({ location }: RequestedLayer): string {
  if (location.startsWith('data:')) return 'data:';
  const { protocol, host, pathname } = new URL(location);
  return `${protocol}//${host}${pathname}`;
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
