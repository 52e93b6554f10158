// Where the service is that a command speaks to.
import { type Environment, httpUrl } from '../../config/values.ts';
import { ServiceRefused } from './service.ts';

export interface AddressSources {
  /** What --server says. */
  readonly server: string | undefined;
  readonly env: Environment;
  /** Asked last: where the address is known, nothing of the configuration has to be readable. */
  readonly findOwn: () => URL | undefined;
}

const addressSchema = httpUrl().refine(({ pathname }) => pathname === '/', 'must have no path');

/** --server, VENEER_URL, or where the configuration has the service listen. Throws ServiceRefused, and what `findOwn` throws. */
export function findServiceUrl({ server, env, findOwn }: AddressSources): URL {
  if (server !== undefined) return parseAddress(server, '--server');
  if (env.VENEER_URL) return parseAddress(env.VENEER_URL, 'VENEER_URL');
  const own = findOwn();
  if (own) return own;
  throw new ServiceRefused('the configuration does not tell where the service listens: name it with --server');
}

function parseAddress(text: string, source: string): URL {
  const { data, error } = addressSchema.safeParse(text);
  if (data) return data;
  throw new ServiceRefused(`${source}: ${error?.issues[0]?.message}, such as http://127.0.0.1:8080`);
}
