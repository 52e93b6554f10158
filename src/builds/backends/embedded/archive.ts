// The entries of a tar, a layer's or an archive's, as nodes.
import type { Header } from 'tar-stream';
import { z } from 'zod';
import { InvalidContext } from '../../context/invalid-context.ts';
import type { ContextLimits } from '../../context/limits.ts';
import { tarEntries } from '../../context/tar-entries.ts';
import { readUnpacked } from '../../context/unpacked.ts';
import { type Attributes, emptyDirectory, type Leaf, type Node } from './node.ts';
import { formatPath, type Path, splitPath } from './path.ts';
import { InvalidStep } from './step.ts';

export interface ArchiveEntry {
  readonly path: Path;
  readonly header: Readonly<Header>;
  readonly attributes: Attributes;
  readonly body: AsyncIterable<Uint8Array>;
}

const paxSchema = z.record(z.string(), z.string()).catch({});
const XATTR = 'SCHILY.xattr.';

/** Reads the tar, packed or not, to its end. Throws InvalidStep, which says `what` the archive is, for one that cannot be read or is beyond a limit. */
export async function readArchive(
  body: ReadableStream<Uint8Array>,
  { what, limits }: { readonly what: string; readonly limits: ContextLimits },
  onEntry: (entry: ArchiveEntry) => Promise<void> | void,
): Promise<void> {
  try {
    let count = 0;
    await readUnpacked(body, limits, async tar => {
      for await (const { header, body } of tarEntries(tar)) {
        count += 1;
        if (count > limits.maxEntries) throw new InvalidStep(`${what} has more than ${limits.maxEntries} entries`);
        await onEntry({ path: pathOf(header.name, what, limits), header, attributes: attributesOf(header), body });
      }
    });
  } catch (error) {
    if (!(error instanceof InvalidContext)) throw error;
    throw new InvalidStep(`${what} ${error.message.replace(/^build context: /, 'cannot be read: ')}`, { cause: error });
  }
}

/** The node of an entry, but for hard links and what is no file at all: undefined. A file is opened by `open`. */
export function toNode(
  { header, attributes, path }: ArchiveEntry,
  open: () => AsyncIterable<Uint8Array>,
): Node | undefined {
  switch (header.type) {
    case 'directory':
      return { ...emptyDirectory, ...attributes };
    case 'file':
    case 'contiguous-file':
      return header.name.endsWith('/')
        ? { ...emptyDirectory, ...attributes }
        : { ...attributes, kind: 'file', size: header.size, open };
    case 'symlink':
      return { ...attributes, kind: 'symlink', mode: 0o777, target: header.linkname ?? '' };
    case 'character-device':
    case 'block-device':
    case 'fifo':
      return toDevice(header.type, header, attributes);
    case 'link':
      throw new InvalidStep(`${formatPath(path)} is a hard link to what is not there`);
    default:
      return undefined;
  }
}

function toDevice(
  kind: 'character-device' | 'block-device' | 'fifo',
  header: Readonly<Header>,
  attributes: Attributes,
): Leaf {
  return { ...attributes, kind, major: header.devmajor ?? 0, minor: header.devminor ?? 0 };
}

function pathOf(name: string, what: string, { maxDepth }: ContextLimits): Path {
  const path = splitPath(name);
  if (path.length <= maxDepth) return path;
  throw new InvalidStep(`${what} has directories deeper than ${maxDepth}`);
}

function attributesOf(header: Readonly<Header>): Attributes {
  const pax = paxSchema.parse(header.pax ?? {});
  const xattrs = Object.fromEntries(Object.entries(pax).filter(([key]) => key.startsWith(XATTR)));
  return {
    mode: (header.mode ?? 0) & 0o7777,
    uid: numberOf(pax.uid) ?? header.uid ?? 0,
    gid: numberOf(pax.gid) ?? header.gid ?? 0,
    mtime: Math.trunc((header.mtime?.getTime() ?? 0) / 1000),
    xattrs,
  };
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
