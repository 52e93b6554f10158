// Sets access up: by the configured grants; without any, all for this machine alone and pulls for the rest of the world.
import { join } from 'node:path';
import type { Memory } from '../memory.ts';
import type { RecordStore } from '../state/store.ts';
import type { Access } from './access.ts';
import type { Bcrypt } from './bcrypt.ts';
import type { AccessFault } from './fault.ts';
import { createGrantedAccess } from './granted.ts';
import { isLoopback } from './loopback.ts';
import type { AccessOptions } from './options.ts';
import { createUnconfiguredAccess } from './unconfigured.ts';

interface AccessDeps {
  /** Absent: nothing is configured. */
  readonly options: AccessOptions | undefined;
  readonly listenHost: string;
  /** The host that clients reach us by, where one is configured. */
  readonly publicHost: string | undefined;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly dataDir: string;
  /** Is told when the file of users becomes unusable while the service runs. */
  readonly onFault: (fault: AccessFault) => void;
  readonly now: () => Date;
  /** Compares passwords, and is closed with the rest; default: in a thread of its own. */
  readonly bcrypt?: Bcrypt;
}

/** Throws AccessFault. The caller closes what it gets. */
export async function createAccess({ options, listenHost, publicHost, ...deps }: AccessDeps): Promise<Access> {
  if (options) return createGrantedAccess({ options, keyPath: join(deps.dataDir, 'signing-key.pem'), ...deps });
  // A public address in front of a loopback one is a proxy on this machine: whoever comes through it is not local.
  return createUnconfiguredAccess({ isOpen: isLoopback(listenHost) && isLoopback(publicHost ?? listenHost) });
}
