// The active rules: what each matches and changes, and how often it was applied.
import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import type { Activity } from '../../observe/activity.ts';
import type { ListedRule, RuleList } from '../../rules/explanation.ts';
import { requireAdmin } from '../middleware/authentication.ts';
import type { ShowPage } from './layout.ts';
import { chip, countOf, type Html, note, table, timeOf } from './parts.ts';

interface RulePagesDeps {
  readonly listRules: () => RuleList;
  readonly activity: Activity;
  readonly show: ShowPage;
  readonly now: () => Date;
}

export function createRulePages({ listRules, activity, show, now }: RulePagesDeps): Hono {
  const app = new Hono();
  app.get('/console/rules', (c: Context) => {
    requireAdmin(c);
    const { rules, loadedAt, faults } = listRules();
    const rows = rules.map(rule => [
      html`<strong>${rule.name}</strong>`,
      describeMatch(rule),
      describeChanges(rule),
      chip(rule.pinned === 'refused' ? 'warn' : 'quiet', rule.pinned),
      countOf(activity.rules.get(rule.name) ?? 0),
    ]);
    const columns = [
      ...['Rule', { name: 'For', isText: true }, { name: 'Changes', isText: true }, 'Pinned digests'],
      { name: 'Requests', isNumber: true },
    ];
    const broken =
      faults.length > 0 &&
      note(
        'bad',
        html`The rules on disk have faults; those below stay active:<ul>${faults.map(fault => html`<li>${fault}</li>`)}</ul>`,
      );
    const empty = 'None: images are served unchanged. Rules are configured in veneer.yaml.';
    const body = html`${broken}${table('Rules', columns, rows, empty)}
<p class="muted small">Active ${timeOf(loadedAt, now())}. Counts are requests that a rule was applied to since the start.</p>`;
    return show(c, { title: 'Rules', lead: 'Changes applied to pulled images, in this order.', body });
  });
  return app;
}

function describeMatch({ match: { image, not = [], platform = [], caller = [] } }: ListedRule): Html {
  const part = (name: string, globs: readonly string[]) =>
    globs.length > 0 && html`<div><span class="muted">${name}</span> <code>${globs.join(', ')}</code></div>`;
  return html`${part('', image)}${part('not', not)}${part('on', platform)}${part('by', caller)}`;
}

function describeChanges({ layers, changes }: ListedRule): Html {
  const added = layers.map(({ from, platforms = [] }) => {
    const on = platforms.length > 0 ? ` (${platforms.join(', ')})` : '';
    return html`<div><span class="muted">layer</span> <code>${from}</code>${on}</div>`;
  });
  return html`${added}${changes.length > 0 && html`<div>${changes.join(', ')}</div>`}`;
}
