// Wires scans: the configured scanner, and access to the image of a token as clients pull it.
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Builds } from '../builds/builds.ts';
import type { Environment } from '../builds/process.ts';
import type { Config } from '../config/schema.ts';
import type { Digest } from '../oci/digest.ts';
import { formatPlatform } from '../oci/platform.ts';
import { listImages } from '../pull/images.ts';
import { imageName, type Origins } from '../pull/origin.ts';
import { createReader } from '../pull/source-reader.ts';
import type { TokenLedger } from '../pull/tokens/ledger.ts';
import type { TokenRecord } from '../pull/tokens/record.ts';
import { tokenImage, type WithToken } from '../pull/tokens/token-registry.ts';
import type { ScanRecord } from '../scans/record.ts';
import { createScanner, ScanFailure, type ScannedImage } from '../scans/scanner.ts';
import { createScans, type Scans } from '../scans/scans.ts';
import type { RecordStore } from '../state/store.ts';

interface ScanningDeps extends ImageDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly records: RecordStore;
  readonly environment: Environment;
  readonly onEnded: (scan: ScanRecord) => void;
}

export function createScanning(deps: ScanningDeps): Promise<Scans> {
  const { config, log, now, records, environment, onEnded } = deps;
  const { command, sbom, timeoutMs, maxOutput, maxImageBytes, ...policy } = config.scans;
  const directory = join(config.dataDir, 'scans');
  const options = { sbom, timeoutMs, maxOutput, maxImageBytes, directory, environment };
  const scanner = command && createScanner({ ...options, command });
  const openImage = (token: string, signal: AbortSignal) => openScannedImage(token, signal, deps);
  return createScans({ ...{ records, scanner, openImage, onEnded, policy, now, log } });
}

interface ImageDeps {
  readonly ledger: Pick<TokenLedger, 'find'>;
  readonly builds: Pick<Builds, 'wait'>;
  readonly origins: Origins;
  readonly withToken: WithToken;
}

const MAX_PLATFORMS = 32;

/** Throws ScanFailure, RegistryError, or the signal's reason. */
async function openScannedImage(token: string, signal: AbortSignal, deps: ImageDeps): Promise<ScannedImage> {
  const record = await deps.ledger.find(token);
  if (!record) throw new ScanFailure('the token of its image has expired');
  const source = record.sourceDigest ?? (await awaitSource(record, signal, deps));
  const origin = deps.origins.locate(record.registry, record.repository);
  const { repository } = origin;
  const isKept = record.frozenImage !== undefined;
  const registry = isKept ? origin.registry : deps.withToken(tokenImage(record, source, origin), signal);
  const digest = isKept ? source : await findRoot(record, source, tag => registry.resolveTag(repository, tag));
  const root = await registry.getManifest(repository, digest);
  const found = await listImages(root, createReader({ registry, repository }, { signal }));
  if (found.length > MAX_PLATFORMS) throw new ScanFailure(`the image has more than ${MAX_PLATFORMS} platforms`);
  const read = await Promise.all(
    found.map(async ({ platform, read }) => ({ platform: formatPlatform(platform), manifest: await read() })),
  );
  const images = read.flatMap(({ platform, manifest }) => (manifest.kind === 'image' ? [{ platform, manifest }] : []));
  if (images.length === 0) throw new ScanFailure('it is not an image that can be scanned');
  const openBlob = async (blob: Digest) => (await registry.getBlob(repository, blob, { signal })).open();
  return { name: imageName(origin, record.tag), digest, images, openBlob };
}

async function findRoot(
  { tag, targetDigest }: TokenRecord,
  source: Digest,
  resolve: (tag: string) => Promise<Digest>,
): Promise<Digest> {
  return tag === undefined ? (targetDigest ?? source) : resolve(tag);
}

async function awaitSource({ buildId = '' }: TokenRecord, signal: AbortSignal, { builds }: ImageDeps): Promise<Digest> {
  const build = await builds.wait(buildId, signal);
  signal.throwIfAborted();
  if (build?.digest !== undefined) return build.digest;
  throw new ScanFailure(`the build ${buildId} produced no image`);
}
