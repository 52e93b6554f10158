// Layers of this machine: a directory or a file becomes content of the layerStore. What changes while it is read is read again, never half of each.
import { createHash } from 'node:crypto';
import { realpath, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { z } from 'zod';
import { layerSchema } from '../../augment/augmentation.ts';
import { InvalidLayer } from '../../augment/budget.ts';
import { describeLayer, type LayerLimits } from '../../augment/layer.ts';
import { readFileOf } from '../../builds/context/directory.ts';
import {
  InvalidLayerDirectory,
  type LayerDirectoryLimits,
  listLayer,
  packFiles,
} from '../../builds/context/layer-directory.ts';
import { isDiskFull } from '../../content/free-space.ts';
import { type Digest, encodeDigest } from '../../oci/digest.ts';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';
import type { DescribedLayer, LocalLayer } from '../rules.ts';
import { createDirectoryWatcher, type DirectoryWatcherDeps } from './directory-watcher.ts';
import { type Fingerprint, isUnchanged, takeFingerprint, walkPath } from './fingerprint.ts';
import type { RuleLayerStore } from './layer-store.ts';

/** A layer as it was when it was read. */
export interface ReadLayer {
  readonly described: DescribedLayer;
  readonly fingerprint: Fingerprint;
}

export interface LocalLayers {
  /** Throws InvalidLayer, which says what is wrong with the directory or file. A layer that is in the layer store needs no room. */
  read(layer: LocalLayer): Promise<ReadLayer>;
  fingerprint(layer: LocalLayer): Promise<Fingerprint>;
  /** The same, as far as anything has told of a change since it was taken last: a large directory is not walked at each look. */
  look(layer: LocalLayer): Promise<Fingerprint>;
  /** Nothing is watched any more. */
  close(): void;
}

const MAX_ENTRIES = 100_000;
const ATTEMPTS = 3;

export function createLocalLayers({
  layerStore,
  limits,
  now,
  onUnwatched,
}: {
  readonly layerStore: Pick<RuleLayerStore, 'put' | 'open' | 'find'>;
  readonly limits: LayerLimits;
  readonly now: () => Date;
  readonly onUnwatched?: DirectoryWatcherDeps['onUnwatched'];
}): LocalLayers {
  const { maxUnpackedBytes } = limits;
  const directoryLimits: LayerDirectoryLimits = { maxBytes: maxUnpackedBytes, maxEntries: MAX_ENTRIES };
  const fingerprint = ({ path }: LocalLayer) => takeFingerprint(resolve(path), now(), directoryLimits);
  const watcher = createDirectoryWatcher({ walk: path => walkPath(path, now(), directoryLimits), onUnwatched });

  async function read(layer: LocalLayer, attempt = 1): Promise<ReadLayer> {
    const before = await fingerprint(layer);
    const [result] = await Promise.allSettled([readNow(layer)]);
    const isSame = (await fingerprint(layer)).value === before.value;
    if (!isSame && attempt < ATTEMPTS) return read(layer, attempt + 1);
    if (!isSame) throw new InvalidLayer(`${layer.path} changes again and again while it is read`);
    if (result.status === 'rejected') throw explain(result.reason, layer.path);
    return { described: result.value, fingerprint: before };
  }

  async function readNow({ kind, path }: LocalLayer): Promise<DescribedLayer> {
    const open = kind === 'directory' ? openDirectory : openFile;
    const { digest, size } = await open(path)
      .then(layerStore.put)
      .catch(async error => {
        const stored = isDiskFull(error) ? await findStored(await open(path)) : undefined;
        if (!stored) throw error;
        return stored;
      });
    const source = { kind: 'shelf' as const, digest, size };
    if (kind === 'directory') return { layer: { digest, size, diffId: digest, compression: 'none' }, source };
    return { layer: await describeStored(digest), source };
  }

  async function findStored(body: ReadableStream<Uint8Array>) {
    const hash = createHash('sha256');
    for await (const chunk of body) hash.update(chunk);
    const digest = encodeDigest('sha256', hash);
    const found = await layerStore.find(digest);
    return found && { digest, size: found.size };
  }

  async function openDirectory(path: string): Promise<ReadableStream<Uint8Array>> {
    const place = await realpath(resolve(path));
    if (!(await stat(place)).isDirectory())
      throw new InvalidLayer(`${path} is no directory: a tar is a layer's "file"`);
    const files = await listLayer(place, directoryLimits);
    if (files.length === 0) throw new InvalidLayer(`${path} is empty: is something to be mounted there?`);
    return packFiles(files);
  }

  async function openFile(path: string): Promise<ReadableStream<Uint8Array>> {
    const place = await realpath(resolve(path));
    const stats = await stat(place);
    if (!stats.isFile()) throw new InvalidLayer(`${path} is no file: a folder is a layer's "directory"`);
    if (stats.size > maxUnpackedBytes) throw new InvalidLayer(`${path} is larger than ${maxUnpackedBytes} bytes`);
    return ReadableStream.from(readFileOf(place, stats, () => new InvalidLayer(`${path} changed while it was read`)));
  }

  async function describeStored(digest: Digest) {
    const body = await layerStore.open(digest);
    if (!body) throw new InvalidLayer(`what was read of it is lost`);
    return describeLayer(body, { gzipDigest: digest }, limits);
  }

  return {
    read: layer => read(layer),
    fingerprint,
    look: ({ path }) => watcher.look(resolve(path)),
    close: watcher.close,
  };
}

/** What is wrong with a file is told with its path; what is wrong with us is not hidden. */
function explain(cause: unknown, path: string): unknown {
  if (cause instanceof InvalidLayerDirectory) return new InvalidLayer(cause.message, { cause });
  if (cause instanceof InvalidLayer)
    return cause.message.includes(path) ? cause : new InvalidLayer(`${path}: ${cause.message}`, { cause });
  if (!(cause instanceof Error && 'code' in cause && 'syscall' in cause)) return cause;
  if (cause.code === 'ENOENT') return new InvalidLayer(`there is no ${path}`, { cause });
  return new InvalidLayer(`cannot read ${'path' in cause ? cause.path : path} (${cause.code})`, { cause });
}

// What was read of the directories and files of this machine, over restarts: one that shows no change since is not read again.

export interface KeptReads {
  /** Undefined where it was not read as it looks now, or what was read is not in the layer store any more. */
  find(layer: LocalLayer, seen: Fingerprint): Promise<ReadLayer | undefined>;
  /** Nothing is kept of what may change without a sign, nor where the records take nothing. */
  keep(layer: LocalLayer, read: ReadLayer): Promise<void>;
}

/** Undefined for a record of a shape that this version does not know. */
const readSchema = z.object({ fingerprint: z.string(), layer: layerSchema }).optional().catch(undefined);

/** After it, a start reads once more. */
const KEEP_MS = 30 * 86_400_000;

export function createKeptReads({
  records,
  layerStore,
  now,
}: {
  readonly records: RecordStore;
  readonly layerStore: Pick<RuleLayerStore, 'find'>;
  readonly now: () => Date;
}): KeptReads {
  const reads = createCollection({ store: records, name: 'rule-read', schema: readSchema });
  const keyOf = ({ kind, path }: LocalLayer) => `${kind} ${resolve(path)}`;
  return {
    async find(layer, seen) {
      // A record that cannot be read is none: the layer can be read anew.
      const kept = await reads.get(keyOf(layer)).catch(() => undefined);
      if (!kept || !isUnchanged({ value: kept.fingerprint, isSettled: true }, seen)) return undefined;
      const { digest, size } = kept.layer;
      if (!(await layerStore.find(digest))) return undefined;
      return { described: { layer: kept.layer, source: { kind: 'shelf', digest, size } }, fingerprint: seen };
    },
    async keep(layer, { described, fingerprint }) {
      if (!fingerprint.isSettled) return;
      const expiresAt = new Date(now().getTime() + KEEP_MS);
      const record = { fingerprint: fingerprint.value, layer: described.layer };
      // What is not kept is read once more: that is no reason to be without rules.
      await reads.put(keyOf(layer), record, { expiresAt }).catch(() => {});
    },
  };
}
