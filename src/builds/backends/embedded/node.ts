// The files of an image as metadata: bodies stay where they are, and are opened when they are copied.

export interface Attributes {
  /** Permissions with set-id and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** In seconds. */
  readonly mtime: number;
  /** Extended attributes as PAX records, `SCHILY.xattr.…`. */
  readonly xattrs: Readonly<Record<string, string>>;
}

export interface FileNode extends Attributes {
  readonly kind: 'file';
  readonly size: number;
  readonly open: () => AsyncIterable<Uint8Array>;
}

interface LinkNode extends Attributes {
  readonly kind: 'symlink';
  readonly target: string;
}

interface DeviceNode extends Attributes {
  readonly kind: 'character-device' | 'block-device' | 'fifo';
  readonly major: number;
  readonly minor: number;
}

/** What has no children; never changed, only replaced. */
export type Leaf = FileNode | LinkNode | DeviceNode;

export interface DirectoryNode extends Attributes {
  readonly kind: 'directory';
  readonly children: ReadonlyMap<string, Node>;
}

export type Node = Leaf | DirectoryNode;

const NEW: Attributes = { mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: {} };

export const emptyDirectory: DirectoryNode = { ...NEW, kind: 'directory', children: new Map() };

/** A file of root's whose bytes are in memory. */
export function createFile(content: Uint8Array, mode: number): FileNode {
  return { ...NEW, kind: 'file', mode, size: content.byteLength, open: () => once(content) };
}

async function* once(content: Uint8Array): AsyncGenerator<Uint8Array> {
  if (content.byteLength > 0) yield content;
}
